package prove

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// lyingNATS: the server of NATS tells a lie on each connection, some of natsLies in a
// trial. Then it is honest, and the stream must be as ever.
var lyingNATS = attack{
	name: "a NATS server that lies: sizes, endless lines, other servers, acknowledgements",
	prepare: func(h *hostile) error {
		other, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go h.noLogin(other)
		h.peers = append(h.peers, func() { other.Close() })
		lies := natsLies(other.Addr().String())
		h.rnd.Shuffle(len(lies), func(i, j int) { lies[i], lies[j] = lies[j], lies[i] })
		h.liar = &natsLiar{lies: lies[:liesTold], rnd: rand.New(rand.NewPCG(h.rnd.Uint64(), 0)), done: make(chan struct{})}
		h.setup.before = func(server string) (url string, err error) {
			addr, err := h.liar.listen(server, h.begun)
			return "nats://etl:" + natsPassword + "@" + addr, err
		}
		return nil
	},
	run: func(ctx context.Context, h *hostile) error {
		h.out.Cut() // the connection that was made before
		for late := time.After(4 * hostileHold); !h.Ended(); backoff.Pause(ctx, 20*time.Millisecond) {
			select {
			case <-h.liar.done:
				return nil
			case <-late:
				h.violate("after %d of %d lies the service makes no more connections to NATS", h.liar.told.Load(), len(h.liar.lies))
				return nil
			case <-ctx.Done():
				return ctx.Err()
			default:
			}
		}
		return nil
	},
}

// liesTold is how many lies a trial has.
const liesTold = 6

// falseAnswers is how many acknowledgements are false before the connection ends.
const falseAnswers = 5

const natsPassword = "opensesame"

// noLogin notes a login at a server that only another server has named.
func (h *hostile) noLogin(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(c, `INFO {"server_id":"other","max_payload":1048576,"headers":true}`+"\r\n")
		c.SetReadDeadline(time.Now().Add(time.Second))
		if line, _ := bufio.NewReader(c).ReadString('\n'); strings.Contains(line, natsPassword) {
			h.violate("the login goes to a server that is not configured")
		}
		c.Close()
	}
}

// natsLie is one of four: what stands in place of the server's INFO; text that is
// sent, then tail without end, among messages; a change of acknowledgements; or a large answer of
// JetStream's API, in place of the one with that word.
type natsLie struct {
	greet      string
	text, tail string
	ack        func(n uint64, rnd *rand.Rand) string
	word       string
	answer     [3]string // its beginning, what is repeated, its end
}

// largeAnswer is what a large answer has: more nats.go does not hand on.
const largeAnswer = 60 << 20

// large is the answer as a message for a subscriber, after an INFO that allows it.
func (l *natsLie) large(subject, sid []byte) []byte {
	text := l.answer[0] + strings.Repeat(l.answer[1], largeAnswer/len(l.answer[1])) + l.answer[2]
	return fmt.Appendf(nil, "INFO {\"max_payload\":67108864}\r\nMSG %s %s %d\r\n%s\r\n", subject, sid, len(text), text)
}

// What the answers of JetStream's API have that are replaced.
const (
	streamInfo    = `api.v1.stream_info_response"`
	storedMessage = `api.v1.stream_msg_get_response"`
)

func natsLies(other string) []natsLie {
	return []natsLie{
		{text: "MSG x 1 4611686018427387904\r\n"},
		{text: "HMSG x 1 12 1073741824\r\n", tail: "x"},
		{text: "MSG x 1 -1\r\n"},
		{text: "MSG ", tail: "x"},
		{text: "-ERR '", tail: "x"},
		{tail: "PING\r\n"},
		{text: `INFO {"max_payload":4611686018427387904}` + "\r\nMSG x 1 1073741824\r\n", tail: "x"},
		{greet: "INFO {" + strings.Repeat("x", 1<<20)},
		{greet: "HTTP/1.1 200 OK\r\n\r\n"},
		{greet: fmt.Sprintf(`INFO {"server_id":"x","proto":1,"max_payload":1048576,"headers":true,"auth_required":true,"connect_urls":[%q]}`+"\r\n", other)},
		{ack: func(n uint64, rnd *rand.Rand) string {
			return fmt.Sprintf(`{"stream":"E2E","seq":%d}`, n+1+rnd.Uint64N(200))
		}},
		{ack: func(n uint64, rnd *rand.Rand) string { return `{"stream":"E2E","seq":18446744073709551615}` }},
		{ack: func(n uint64, rnd *rand.Rand) string {
			return fmt.Sprintf(`{"stream":"E2E","seq":%d}`, n-min(n, 1+rnd.Uint64N(200)))
		}},
		{ack: func(n uint64, _ *rand.Rand) string { return fmt.Sprintf(`{"stream":"OTHER","seq":%d}`, n) }},
		{ack: func(n uint64, _ *rand.Rand) string {
			return fmt.Sprintf(`{"stream":"E2E","seq":%d,"duplicate":true}`, n)
		}},
		{ack: func(uint64, *rand.Rand) string { return strings.Repeat("[", 4000) }},
		{ack: func(uint64, *rand.Rand) string { return strings.Repeat(" ", 1<<20) }},
		{word: streamInfo, answer: [3]string{`{"sources":[{}`, `,{}`, `]}`}},
		{word: streamInfo, answer: [3]string{`{"cluster":{"name":"x","replicas":[{}`, `,{}`, `]}}`}},
		{word: streamInfo, answer: [3]string{`{"config":{"subjects":[""`, `,""`, `]}}`}},
		{word: storedMessage, answer: [3]string{`{"message":{"subject":"x","seq":1,"data":"`, `AAAA`, `"}}`}},
		{word: storedMessage, answer: [3]string{`{"error":{"err_code":1,"description":"`, `x`, `"}}`}},
	}
}

// natsLiar stands before the real server.
type natsLiar struct {
	lies []natsLie
	told atomic.Int64
	done chan struct{} // closed when an honest connection is made

	mu       sync.Mutex
	rnd      *rand.Rand
	listener net.Listener
	conns    []net.Conn
}

// listen begins to take connections, which are honest until lying is closed.
func (l *natsLiar) listen(server string, lying <-chan struct{}) (addr string, err error) {
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return "", err
	}
	go func() {
		honest := sync.OnceFunc(func() { close(l.done) })
		for {
			c, err := l.listener.Accept()
			if err != nil {
				return
			}
			l.keep(c)
			go func() {
				defer c.Close()
				l.serve(c, server, lying, honest)
			}()
		}
	}()
	return l.listener.Addr().String(), nil
}

func (l *natsLiar) keep(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
}

// close ends it; nil is none.
func (l *natsLiar) close() {
	if l == nil {
		return
	}
	if l.listener != nil {
		l.listener.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
}

// serve is the life of a connection: the real server's, with a lie.
func (l *natsLiar) serve(c net.Conn, server string, lying <-chan struct{}, honest func()) {
	var lie natsLie
	select {
	case <-lying:
		if n := l.told.Add(1); n <= int64(len(l.lies)) {
			lie = l.lies[n-1]
		} else {
			honest()
		}
	default:
	}
	if lie.greet != "" {
		fmt.Fprint(c, lie.greet)
		if strings.Contains(lie.greet, "auth_required") {
			bufio.NewReader(c).ReadString('\n')
			fmt.Fprint(c, "-ERR 'Authorization Violation'\r\n")
		}
		return
	}
	s, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	l.keep(s)
	go func() {
		io.Copy(s, c)
		s.Close()
	}()
	l.pass(c, s, &lie)
}

var plainAck = regexp.MustCompile(`^\{"stream": ?"E2E", ?"seq": ?([0-9]+)\}$`)

// pass passes what the server sends, unit by unit, and tells the lie among its answers.
func (l *natsLiar) pass(c net.Conn, s io.Reader, lie *natsLie) error {
	in := bufio.NewReaderSize(s, 64<<10)
	for answers := 0; ; {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		unit := line
		if fields := bytes.Fields(line); len(fields) > 3 && (string(fields[0]) == "MSG" || string(fields[0]) == "HMSG") {
			size, err := strconv.Atoi(string(fields[len(fields)-1]))
			if err != nil {
				return err
			}
			unit = append(unit, make([]byte, size+2)...)
			if _, err := io.ReadFull(in, unit[len(line):]); err != nil {
				return err
			}
			if lie.word != "" && bytes.Contains(unit, []byte(lie.word)) {
				unit, lie = lie.large(fields[1], fields[2]), &natsLie{}
			}
			ack := plainAck.FindSubmatch(unit[len(line) : len(unit)-2])
			if ack != nil {
				answers++
			}
			if ack != nil && lie.ack != nil {
				n, _ := strconv.ParseUint(string(ack[1]), 10, 64)
				l.mu.Lock()
				text := lie.ack(n, l.rnd)
				l.mu.Unlock()
				unit = natsmsg.AppendMsg(nil, fields[1], fields[2], []byte(text))
				if answers > falseAnswers {
					return nil
				}
			}
		}
		if lie.text+lie.tail != "" && answers > 3 {
			return tell(c, lie)
		}
		if _, err := c.Write(unit); err != nil {
			return err
		}
	}
}

func tell(c net.Conn, lie *natsLie) error {
	_, err := io.WriteString(c, lie.text)
	block := bytes.Repeat([]byte(lie.tail), 64<<10/max(1, len(lie.tail)))
	for sent := 0; err == nil && len(block) > 0 && sent < floodBytes; sent += len(block) {
		_, err = c.Write(block)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, c) // until the other side has had enough
	}
	return err
}
