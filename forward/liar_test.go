package forward

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A liar stands before a server and replaces one of its answers: the first whose text
// has the word.
type liar struct {
	word string
	lie  []byte
	told atomic.Bool
}

// start returns the URL of the liar. The server seems to take messages of 64 MiB.
func (l *liar) start(t *testing.T, server string) (url string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", strings.TrimPrefix(server, "nats://"))
			if err != nil {
				c.Close()
				continue
			}
			serving.Go(func() { defer s.Close(); io.Copy(s, c) })
			serving.Go(func() { defer c.Close(); l.pass(c, bufio.NewReaderSize(s, 64<<10)) })
		}
	})
	return "nats://" + listener.Addr().String()
}

var maxPayloadIs = regexp.MustCompile(`"max_payload":\d+`)

func (l *liar) pass(to io.Writer, from *bufio.Reader) error {
	for {
		line, err := from.ReadBytes('\n')
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte("INFO ")) {
			line = maxPayloadIs.ReplaceAll(line, []byte(`"max_payload":67108864`))
		}
		fields := bytes.Fields(line)
		if len(fields) < 4 || !bytes.HasSuffix(fields[0], []byte("MSG")) {
			if _, err := to.Write(line); err != nil {
				return err
			}
			continue
		}
		size, _ := strconv.Atoi(string(fields[len(fields)-1]))
		text := make([]byte, size+2)
		if _, err := io.ReadFull(from, text); err != nil {
			return err
		}
		if bytes.Contains(text, []byte(l.word)) && l.told.CompareAndSwap(false, true) {
			line, text = fmt.Appendf(nil, "MSG %s %s %d\r\n", fields[1], fields[2], len(l.lie)), append(l.lie, "\r\n"...)
		}
		for _, part := range [][]byte{line, text} {
			if _, err := to.Write(part); err != nil {
				return err
			}
		}
	}
}

// An answer of which nats.go would make gigabytes, or that is a thousand times what it may
// be, ends the connection before it is read; the next one is used.
func TestLargeAnswers(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		word, begin, repeat, end string
		size                     int
		want                     string // "": it is taken
		most                     uint64 // bytes that are allocated
	}{
		"sources of a stream":  {`stream_info_response"`, `{"type":"io.nats.jetstream.api.v1.stream_info_response","sources":[{}`, `,{}`, `]}`, 60 * mib, "where at most", 16 * mib},
		"replicas of a stream": {`stream_info_response"`, `{"type":"io.nats.jetstream.api.v1.stream_info_response","cluster":{"name":"x","replicas":[{}`, `,{}`, `]}}`, 60 * mib, "where at most", 16 * mib},
		"what is allowed":      {`stream_info_response"`, `{"type":"io.nats.jetstream.api.v1.stream_info_response","config":{"name":"TELEMETRY","subjects":["mqtt.>"]},"sources":[{}`, `,{}`, `]}`, mib - 100, "", 128 * mib},
		"an error":             {`stream_info_response"`, `{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":500,"err_code":10008,"description":"`, `ab`, `"}}`, mib - 100, "…", 64 * mib},
		"an acknowledgement":   {`"stream":"TELEMETRY"`, `{"stream":"TELEMETRY","seq":1`, ` `, `}`, mib, "where at most 4096 are awaited", 16 * mib},
		"a stored message":     {`stream_msg_get_response"`, `{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","message":{"subject":"mqtt.x","seq":1,"data":"`, `AAAA`, `"}}`, 60 * mib, "", 300 * mib},
		"more than a message":  {`stream_msg_get_response"`, `{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","message":{"subject":"mqtt.x","seq":1,"data":"`, `AAAA`, `"}}`, 88 * mib, "a message of", 16 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNATS(t)
			l := newMemLog()
			l.grow(10)
			r := forward(t, n.URL(), l)
			l.await(t, 10)
			r.stop(t)

			lie := []byte(c.begin + strings.Repeat(c.repeat, (c.size-len(c.begin)-len(c.end))/len(c.repeat)) + c.end)
			peer := &liar{word: c.word, lie: append(make([]byte, 0, len(lie)+2), lie...)}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			l.grow(10)
			r = forward(t, peer.start(t, n.URL()), l)
			l.await(t, 20)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > c.most {
				t.Errorf("%d MiB allocated, want at most %d", got>>20, c.most>>20)
			} else {
				t.Logf("%d MiB allocated", got>>20)
			}
			if !peer.told.Load() {
				t.Error("the lie was not told")
			}
			if c.want != "" {
				r.log.await(t, c.want)
			}
			if longest := r.log.longest(); longest > 3000 {
				t.Errorf("a line of the log has %d bytes", longest)
			}
			wantExactly(t, n.URL(), span{1, 20})
		})
	}
}
