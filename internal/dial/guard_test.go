package dial

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

// liar is a NATS server that says what a test wants it to.
func liar(t *testing.T, serve func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// login answers a client until it is logged in.
func login(c net.Conn, more string) {
	fmt.Fprintf(c, "INFO {\"server_id\":\"x\",\"max_payload\":1048576,\"headers\":true%s}\r\n", more)
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if err != nil || line == "PING\r\n" {
			fmt.Fprint(c, "PONG\r\n")
			return
		}
	}
}

// flood writes until the other side has enough, at most 256 MiB.
func flood(c net.Conn, text string) {
	block := []byte(strings.Repeat(text, 1+64<<10/len(text)))
	for n := 0; n < 256<<20; n += len(block) {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// What would have nats.go allocate what a server claims, or keep what it sends
// without end, ends the connection, with the reason.
func TestServerThatLies(t *testing.T) {
	for name, c := range map[string]struct {
		sends func(net.Conn)
		want  string
	}{
		"size of a message":             {func(c net.Conn) { fmt.Fprint(c, "MSG x 1 4611686018427387904\r\n") }, "a message of 4611686018427387904 bytes"},
		"size beyond any number":        {func(c net.Conn) { fmt.Fprint(c, "MSG x 1 99999999999999999999999999\r\n") }, "a message of 99999999999999999999 bytes"},
		"size of a message with header": {func(c net.Conn) { fmt.Fprint(c, "HMSG x 1 12 1073741824\r\n") }, "a message of 1073741824 bytes"},
		"size after a tab":              {func(c net.Conn) { fmt.Fprint(c, "MSG x 1 5\t1073741824\r\n") }, "something that is not NATS"},
		"negative size":                 {func(c net.Conn) { fmt.Fprint(c, "MSG x 1 -5\r\n") }, "something that is not NATS"},
		"lower case":                    {func(c net.Conn) { fmt.Fprint(c, "msg x 1 1073741824\r\n") }, "something that is not NATS"},
		"INFO allows all": {func(c net.Conn) {
			fmt.Fprint(c, "INFO {\"max_payload\":4611686018427387904}\r\nMSG x 1 1073741824\r\n")
		}, "a message of 1073741824 bytes"},
		"message that nobody awaits":         {func(c net.Conn) { fmt.Fprint(c, "MSG x 1 90000000\r\n") }, "a message of 90000000 bytes"},
		"acknowledgement of 5,000 bytes":     {func(c net.Conn) { fmt.Fprint(c, "MSG x 1 5000\r\n") }, "a message of 5000 bytes, where at most 4096 are awaited"},
		"long subject":                       {func(c net.Conn) { fmt.Fprintf(c, "MSG %s 1 0\r\n", strings.Repeat("x", 5000)) }, "a message of 0 bytes"},
		"header longer than its message":     {func(c net.Conn) { fmt.Fprint(c, "HMSG x 1 20 12\r\n") }, "something that is not NATS"},
		"header without a length":            {func(c net.Conn) { fmt.Fprint(c, "HMSG x 1\t12 12\r\n") }, "something that is not NATS"},
		"line of a message without end":      {func(c net.Conn) { fmt.Fprint(c, "MSG "); flood(c, "x") }, "control line of more"},
		"INFO without end":                   {func(c net.Conn) { fmt.Fprint(c, "INFO {"); flood(c, "x") }, "control line of more"},
		"error without end":                  {func(c net.Conn) { fmt.Fprint(c, "-ERR '"); flood(c, "x") }, "control line of more"},
		"PING without end of line":           {func(c net.Conn) { fmt.Fprint(c, "PING"); flood(c, " ") }, "control line of more"},
		"PINGs whose answers it never reads": {func(c net.Conn) { flood(c, "PING\r\n") }, "PINGs"},
		"PINGs of another form":              {func(c net.Conn) { flood(c, "PING \r\n") }, "PINGs"},
		"message longer than it says":        {func(c net.Conn) { fmt.Fprint(c, "MSG x 1 3\r\n"); flood(c, "x") }, "something that is not NATS"},
		"something else":                     {func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\n") }, "something that is not NATS"},
	} {
		t.Run(name, func(t *testing.T) {
			url := liar(t, func(conn net.Conn) {
				login(conn, "")
				c.sends(conn)
				io.Copy(io.Discard, conn)
			})
			down := make(chan error, 1)
			nc, err := new(NATS).Connect(t.Context(), "nats://"+url, nats.NoReconnect(), nats.Timeout(5*time.Second),
				nats.ClosedHandler(func(nc *nats.Conn) { down <- nc.LastError() }))
			if err == nil {
				defer nc.Close()
				select {
				case err = <-down:
				case <-time.After(20 * time.Second):
					t.Fatal("the connection goes on")
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it ends with %v, want %q", err, c.want)
			}
		})
	}
}

// The same before the login.
func TestServerThatLiesAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		sends func(net.Conn)
		want  string
	}{
		"INFO without end": {func(c net.Conn) { fmt.Fprint(c, "INFO {"); flood(c, "x") }, "control line of more"},
		"something else":   {func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-OpenSSH_9.2\r\n") }, "does not speak NATS"},
		"line instead of PONG": {func(c net.Conn) {
			fmt.Fprint(c, "INFO {}\r\n")
			flood(c, "x")
		}, "control line of more"},
	} {
		t.Run(name, func(t *testing.T) {
			url := liar(t, func(conn net.Conn) { c.sends(conn); io.Copy(io.Discard, conn) })
			nc, err := new(NATS).Connect(t.Context(), "nats://"+url, nats.NoReconnect(), nats.Timeout(5*time.Second))
			if err == nil {
				nc.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A server that names another one, and refuses us, does not have our login sent there;
// a second one of ours gets it.
func TestLoginStaysWithTheServersGiven(t *testing.T) {
	told := make(chan string, 10)
	hear := func(name string, more string) string {
		return liar(t, func(c net.Conn) {
			fmt.Fprintf(c, "INFO {\"server_id\":\"x\",\"auth_required\":true,\"max_payload\":1048576,\"headers\":true%s}\r\n", more)
			line, _ := bufio.NewReader(c).ReadString('\n')
			told <- name + " " + line
			if name == "second" {
				fmt.Fprint(c, "PONG\r\n")
				io.Copy(io.Discard, c)
				return
			}
			fmt.Fprint(c, "-ERR 'Authorization Violation'\r\n")
		})
	}
	other := hear("other", "")
	first := hear("first", fmt.Sprintf(",\"connect_urls\":[%q]", other))
	second := hear("second", "")
	for _, list := range []string{"nats://u:secret@" + first, "nats://u:secret@" + first + ",nats://u:secret@" + second} {
		nc, err := new(NATS).Connect(t.Context(), list, nats.NoReconnect(), nats.Timeout(5*time.Second), nats.DontRandomize())
		if strings.Contains(list, second) != (err == nil) {
			t.Errorf("%s: %v", list, err)
		}
		if err != nil && !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%v, want %v", err, nats.ErrAuthorization)
		}
		if nc != nil {
			nc.Close()
		}
	}
	var got []string
	for len(told) > 0 {
		name, line, _ := strings.Cut(<-told, " ")
		if !strings.Contains(line, "secret") {
			t.Errorf("%s hears %q", name, line)
		}
		got = append(got, name)
	}
	if want := "[first first second]"; fmt.Sprint(got) != want {
		t.Errorf("the login went to %v, want %v", got, want)
	}
}

// What a server rightly sends passes, however the reads cut it.
func TestGuardLetsThrough(t *testing.T) {
	text := "INFO {\"max_payload\":100}\r\nPING\r\nMSG a.b 1 5\r\nhello\r\nMSG a 12 _INBOX.x 0\r\n\r\nHMSG a 1 12 17\r\nNATS/1.0\r\n\r\nhe\r\no\r\n-ERR 'x'\r\n+OK\r\nPONG\r\n"
	for size := 1; size <= len(text); size++ {
		near, far := net.Pipe()
		go func() { io.WriteString(far, text); far.Close() }()
		g := newGuard(near, 0, new(awaited))
		got, buf := "", make([]byte, size)
		for {
			n, err := g.Read(buf)
			got += string(buf[:n])
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatalf("reads of %d bytes: %v after %q", size, err, got)
				}
				break
			}
		}
		if got != text {
			t.Fatalf("reads of %d bytes: %q", size, got)
		}
	}
}

// An answer that is awaited passes, and no second one; of stored messages as much as is
// asked for, whatever the server says of its max_payload.
func TestGuardAwaits(t *testing.T) {
	const info = "INFO {\"max_payload\":67108864}\r\n"
	msg := func(n int) string { return fmt.Sprintf("MSG a 1 %d\r\n%s\r\n", n, strings.Repeat("x", n)) }
	var asked awaited
	g := newGuard(nil, 0, &asked)
	look := func(text, want string) {
		t.Helper()
		err := g.look([]byte(text))
		if got := fmt.Sprint(err); (want == "") != (err == nil) || !strings.Contains(got, want) {
			t.Errorf("%.30q: %v, want %q", text, err, want)
		}
		g.rest = 0
	}
	look(info+msg(MaxAck-20), "")
	look(msg(MaxAnswer-100), "a message of 1048476 bytes")
	first := asked.expect(MaxAnswer)
	look(msg(MaxAnswer-100), "")
	look(msg(MaxAnswer-100), "a message of 1048476 bytes")
	second := asked.expect(MaxAnswer)
	look(msg(MaxAnswer-100), "")
	first()
	look(msg(MaxAck), "a message of 4096 bytes")
	second()
	third := asked.expect(MaxAnswer)
	look(msg(MaxAnswer-100), "")
	third()
	for range 32 {
		defer asked.expect(MaxStored(64 << 20))()
	}
	look(fmt.Sprintf("HMSG a 1 %d %d\r\n", maxHeader+1, 80<<20), "a header of 65537 bytes")
	asked.used = 0
	look(fmt.Sprintf("MSG a 1 %d\r\n", 80<<20), "")
	look(fmt.Sprintf("MSG a 1 %d\r\n", 80<<20), "a message of 83886080 bytes")
}

// An answer that comes after the question has timed out does not end the connection, if it
// comes within a while.
func TestGuardLetsLateAnswersThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d NATS
		late := func() error {
			g := newGuard(nil, 0, &d.asked)
			return g.look(fmt.Appendf(nil, "MSG a 1 %d\r\n", MaxAnswer-100))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := d.Expect(ctx, MaxAnswer)
		<-ctx.Done()
		done()
		time.Sleep(lateAnswer - time.Second)
		if err := late(); err != nil {
			t.Errorf("a late answer: %v", err)
		}
		if err := late(); err == nil {
			t.Error("two answers to one question pass")
		}
		time.Sleep(2 * time.Second)
		if err := late(); err == nil {
			t.Errorf("an answer passes %v after the question", lateAnswer)
		}
		d.Expect(t.Context(), MaxAnswer)()
		if err := late(); err == nil {
			t.Error("a second answer passes")
		}
	})
}

func FuzzGuard(f *testing.F) {
	f.Add([]byte("MSG a 1 5\r\nhello\r\nPING\r\n"), 3)
	f.Add([]byte("HMSG a 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"), 5)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		whole, parts := newGuard(nil, 0, new(awaited)), newGuard(nil, 0, new(awaited))
		cut = min(max(cut, 0), len(text))
		a := whole.look(text)
		b := parts.look(text[:cut])
		if b == nil {
			b = parts.look(text[cut:])
		}
		if (a == nil) != (b == nil) {
			t.Fatalf("as a whole %v, in parts %v", a, b)
		}
		if a == nil && (whole.rest != parts.rest || string(whole.line) != string(parts.line)) {
			t.Fatalf("as a whole %d %q, in parts %d %q", whole.rest, whole.line, parts.rest, parts.line)
		}
	})
}

func BenchmarkGuard(b *testing.B) {
	ack := []byte("MSG _INBOX.LkJ2lkj3lkj4lkj5 2 38\r\n{\"stream\":\"TELEMETRY\", \"seq\":12345678}\r\n")
	var text []byte
	for range 400 {
		text = append(text, ack...)
	}
	g := newGuard(nil, 0, new(awaited))
	for b.Loop() {
		if err := g.look(text); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*400), "ns/msg")
}
