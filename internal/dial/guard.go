package dial

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// Bounds of what a NATS server may send.
const (
	// maxLine bounds a control line: the server's own limit for those of clients is
	// 4 KiB, an INFO that names hundreds of servers has some 20.
	maxLine = 64 << 10
	// maxPayload is the largest max_payload that nats-server takes, and that is believed.
	maxPayload = 64 << 20
	// defaultPayload holds until INFO says more.
	defaultPayload = 1 << 20
	// MaxAck is the largest message that a server may send unasked, its control line included:
	// an acknowledgement has some 100 bytes, and many of them may wait to be read.
	MaxAck = 4 << 10
	// MaxAnswer is what an answer of JetStream's API may have. The largest is a list of
	// 1,024 names of streams, 260 KiB. What nats.go makes of an answer takes up to 35 times its size.
	MaxAnswer = 1 << 20
	// lateAnswer is how long an answer may still come for which nobody waits any more.
	lateAnswer = 30 * time.Second
	// maxHeader is what a message's header may have: JetStream's limit. nats.go makes a map of it.
	maxHeader = 64 << 10
	// maxPings is how many PINGs a second are answered. A server sends one in minutes.
	maxPings = 100
)

var (
	errLine  = fmt.Errorf("a control line of more than %d bytes", maxLine)
	errPings = fmt.Errorf("more than %d PINGs in a second", maxPings)
	errForm  = errors.New("something that is not NATS")
)

// guard is a stream from a NATS server. It ends with an error where the server leaves
// the protocol or its bounds, so nats.go can keep in memory whatever it reads.
type guard struct {
	net.Conn
	first []byte // read before, returned first
	line  []byte // a control line that has begun
	rest  int    // of a message that has begun, CR LF included
	most  int    // bytes of a message, by the server's max_payload
	plain int    // bytes of a message that nobody has asked for
	*awaited
	pings int // since
	since time.Time
	err   error
}

func newGuard(c net.Conn, plain int, asked *awaited) *guard {
	return &guard{Conn: c, most: mostOf(defaultPayload), plain: max(plain, MaxAck), awaited: asked}
}

// awaited are the bytes of answers that are being waited for.
type awaited struct {
	mu   sync.Mutex
	sum  int // of all that wait
	used int // by messages that have come since
}

// expect has up to n bytes more come in large messages until done is called.
func (a *awaited) expect(n int) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sum += n
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.sum -= n
		a.used = max(0, a.used-n)
	})
}

// take counts a large message, and says how many bytes it might have had.
func (a *awaited) take(n int) (most int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// The number that wait for a stored message goes by the server's own max_payload.
	most = min(a.sum, mostOf(maxPayload)) - a.used
	if n <= most {
		a.used += n
	}
	return most, n <= most
}

// MaxStored is the largest answer that holds a stored message of a server with this max_payload.
func MaxStored(payload int64) int { return mostOf(int(min(payload, maxPayload))) }

// mostOf is the size of the largest message of a server with this max_payload. It is more
// than that: an answer of JetStream holds a stored message, with its header, in base64.
func mostOf(payload int) int { return min(payload, maxPayload)/3*4 + 1<<20 }

// Read implements net.Conn.
func (g *guard) Read(p []byte) (n int, err error) {
	if g.err != nil {
		return 0, g.err
	}
	if len(g.first) > 0 {
		n = copy(p, g.first)
		g.first = g.first[n:]
	} else {
		n, err = g.Conn.Read(p)
	}
	if broken := g.look(p[:n]); broken != nil {
		g.err = fmt.Errorf("the server sends %w", broken)
		return 0, g.err
	}
	return n, err
}

// look follows the protocol through what has been read.
func (g *guard) look(b []byte) error {
	for len(b) > 0 {
		if g.rest > 0 {
			n, err := g.pass(b)
			if err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			if g.line = append(g.line, b...); len(g.line) > maxLine {
				return errLine
			}
			return nil
		}
		line := b[:end]
		if len(g.line) > 0 {
			g.line = append(g.line, line...)
			line = g.line
		}
		if err := g.command(line); err != nil {
			return err
		}
		g.line, b = g.line[:0], b[end+1:]
	}
	return nil
}

// pass goes over the rest of a message, which ends with CR LF.
func (g *guard) pass(b []byte) (n int, err error) {
	n = min(g.rest, len(b))
	for i := max(0, g.rest-2); i < n; i++ { // usually in b as a whole
		if want := "\n\r"[g.rest-i-1]; b[i] != want {
			return 0, errForm
		}
	}
	g.rest -= n
	return n, nil
}

// command takes a control line without its LF.
func (g *guard) command(line []byte) error {
	if len(line) > maxLine {
		return errLine
	}
	n := len(line) - 1
	if n < 3 || line[n] != '\r' {
		return errForm
	}
	line = line[:n]
	switch line[0] {
	case 'M', 'H':
		return g.message(line)
	case 'I':
		return g.info(line)
	case 'P':
		return g.ping(line)
	case '+', '-':
		return nil
	}
	return errForm
}

// message takes the line before a message.
func (g *guard) message(line []byte) error {
	header, total, message, ok := natsmsg.Sizes(line)
	if !message || !ok {
		return errForm
	}
	switch {
	case total > g.most:
		return fmt.Errorf("a message of %.20s bytes, at most %d fit its max_payload", line[bytes.LastIndexByte(line, ' ')+1:], g.most)
	case header > maxHeader:
		return fmt.Errorf("a header of %d bytes, at most %d fit", header, maxHeader)
	case total+len(line) > g.plain:
		if most, ok := g.take(total + len(line)); !ok {
			return fmt.Errorf("a message of %d bytes, where at most %d are awaited", total, max(most, g.plain))
		}
	}
	g.rest = total + 2
	return nil
}

func (g *guard) info(line []byte) error {
	var info struct {
		MaxPayload int `json:"max_payload"`
	}
	text, ok := bytes.CutPrefix(line, []byte("INFO "))
	if !ok || json.Unmarshal(text, &info) != nil {
		return errForm
	}
	if info.MaxPayload > 0 {
		g.most = mostOf(info.MaxPayload)
	}
	return nil
}

// ping bounds the answers that nats.go keeps for a server that does not read them.
func (g *guard) ping(line []byte) error {
	if line[1] == 'O' || line[1] == 'o' { // PONG; nats.go answers "PINg" and "PING  ", too
		return nil
	}
	now := time.Now()
	if now.Sub(g.since) > time.Second {
		g.since, g.pings = now, 0
	}
	if g.pings++; g.pings > maxPings {
		return errPings
	}
	return nil
}
