package replay

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
)

// busy is a NATS server that answers no PING, but the first, before it has got
// all of n messages.
func busy(t *testing.T, n int) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "INFO {\"server_id\":\"busy\",\"version\":\"2.9.10\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n")
		in, got, pings := bufio.NewReader(c), 0, 0
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			switch words := strings.Fields(line); words[0] {
			case "PING":
				pings++
				if pings > 1 && got < n {
					continue
				}
				for ; pings > 0; pings-- {
					fmt.Fprint(c, "PONG\r\n")
				}
				pings = 1
			case "HPUB":
				size, _ := strconv.ParseInt(words[len(words)-1], 10, 64)
				if _, err := io.CopyN(io.Discard, in, size+2); err != nil {
					return
				}
				if got++; got < n {
					continue
				}
				for ; pings > 1; pings-- {
					fmt.Fprint(c, "PONG\r\n")
				}
			}
		}
	}()
	return "nats://" + l.Addr().String()
}

// No record waits for the answer about those before it: what is due leaves,
// however long the server takes.
func TestCorePaceDoesNotWaitForTheServer(t *testing.T) {
	const n, step = 20, 10 * time.Millisecond // several times coreIdle
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Second)
	defer stop()
	p := playerOf(&endless{n: n, step: int64(step)}, Pace{Speed: 1})
	to, err := OpenCore(ctx, forward.Config{URL: busy(t, n), SubjectPrefix: "mqtt", LogID: "0123456789abcdef"}, p.Confirmed, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	err = p.Run(ctx, to)
	if a := p.Account(); err != nil || a.Sent != n || a.Confirmed != n {
		t.Errorf("%+v, %v", a, err)
	}
}

// In a silence everything before it is confirmed, though it came faster than
// questions are put.
func TestCoreConfirmsInASilence(t *testing.T) {
	const n = 3
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	confirmed := make(chan mqttetl.Seq, n)
	p := NewPlayer(Config{Pace: Pace{Speed: 1}, Open: func(mqttetl.Seq, uint64) Source {
		return &silence{n: n}
	}})
	to, err := OpenCore(ctx, forward.Config{URL: busy(t, n), SubjectPrefix: "mqtt", LogID: "0123456789abcdef"}, func(upTo mqttetl.Seq, k int) {
		p.Confirmed(upTo, k)
		confirmed <- upTo
	}, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	ended := make(chan error)
	go func() { ended <- p.Run(ctx, to) }()
	for late := time.After(8 * time.Second); ; {
		select {
		case at := <-confirmed:
			if at < n {
				continue
			}
		case <-late:
			t.Errorf("confirmed up to %d", p.Position().Seq)
		}
		break
	}
	stop()
	if err := <-ended; err == nil {
		t.Error("the replay ended before the last record was due")
	}
}

// silence is a Source of n records in a millisecond, and one an hour later.
type silence struct{ n, at int }

func (s *silence) Next(context.Context) ([]mqttetl.Record, error) {
	if s.at > s.n {
		return nil, io.EOF
	}
	s.at++
	r := mqttetl.Record{Seq: mqttetl.Seq(s.at), Time: int64(s.at) * 1e5, Source: "default", Message: mqttetl.Message{Topic: []byte("a")}}
	if s.at > s.n {
		r.Time += int64(time.Hour)
	}
	return []mqttetl.Record{r}, nil
}
