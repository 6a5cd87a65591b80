package embedded

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/test/servers"
)

// strangePackets are whole packets of MQTT 5, as a client sends them.
var strangePackets = map[string]string{
	"SUBSCRIBE":      "820a04d200000474657374" + "01",
	"SUBSCRIBE, id":  "820c04d2020b0100047465737401",
	"SUBSCRIBE, two": "820e04d2000001610100047465737402",
	"UNSUBSCRIBE":    "a20904d200000474657374",
	"PUBLISH":        "320c0004746573740001000061" + "62",
	"PUBLISH, props": "321600047465737400010b2600016b000176230001" + "6162",
	"PUBACK":         "4004000100" + "00",
	"PUBREC":         "500400010000",
	"PUBREL":         "620400010000",
	"PUBCOMP":        "700400010000",
	"PINGREQ":        "c000",
	"AUTH":           "f00700051500026162",
	"DISCONNECT":     "e007000511000000ff",
	"CONNECT again":  "101100044d5154540502003c00000461626364",
	"CONNACK":        "2003000000",
	"SUBACK":         "900404d20000",
	"UNSUBACK":       "b00404d20000",
	"from the issue": "820604d200000170",
	"type 0":         "0000",
}

var helloMQTT5 = []byte{0x10, 0x10, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 3, 'o', 'd', 'd'}

// TestMochiOutlivesStrangers sends the in-process broker what no client should:
// every packet cut at every byte, and packets with changed bytes. A panic would
// end this process; afterwards the broker still serves.
func TestMochiOutlivesStrangers(t *testing.T) {
	address, err := servers.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	m, err := StartMochi(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for name, text := range strangePackets {
		whole, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for cut := 2; cut <= len(whole); cut++ {
			p := bytes.Clone(whole[:cut])
			p[1] = byte(cut - 2)
			sendStrange(t, m.Addr, helloMQTT5, p)
			if whole[0]>>4 == 1 {
				sendStrange(t, m.Addr, nil, p)
			}
		}
		for range 20 {
			p := bytes.Clone(whole)
			for range 1 + random.IntN(3) {
				p[random.IntN(len(p))] = byte(random.Uint32())
			}
			p[1] = byte(len(p) - 2)
			sendStrange(t, m.Addr, helloMQTT5, p)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, address := range []string{m.URL, m.WebSocketURL} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := new(dial.Dialer).Dial(ctx, u)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(helloMQTT5)
		_, _ = c.Write([]byte{0x82, 6, 4, 0xd2, 0, 0, 1, 'p'})
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection of the packet that makes mochi panic stays open", address)
		}
		c.Close()
	}
	if got := answers(t, m.Addr); !bytes.Equal(got, []byte{0xd0, 0}) {
		t.Fatalf("a PINGREQ is answered with % x", got)
	}
}

// sendStrange sends p and waits until the broker has read it: it closes the
// connection, or is left by the DISCONNECT that follows.
func sendStrange(t *testing.T, addr string, hello, p []byte) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("before % x: %v", p, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write(append(append(bytes.Clone(hello), p...), 0xe0, 0))
	_ = c.(*net.TCPConn).CloseWrite()
	for buf := make([]byte, 4096); err == nil; {
		_, err = c.Read(buf)
	}
}

// answers returns what comes after the CONNACK for a PINGREQ.
func answers(t *testing.T, addr string) []byte {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write(append(bytes.Clone(helloMQTT5), 0xc0, 0))
	var got []byte
	for buf := make([]byte, 4096); !bytes.HasSuffix(got, []byte{0xd0, 0}); {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("got % x: %v", got, err)
		}
		got = append(got, buf[:n]...)
	}
	return got[len(got)-2:]
}
