package session

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %s in vain: %s", patience, what)
		case <-again.C:
		}
	}
}

// memory is a Log in memory whose commits can be held.
type memory struct {
	mu      sync.Mutex
	held    bool
	queue   []*mqttetl.Batch
	records []mqttetl.Record
	ids     []uint16
}

func (l *memory) Append(b *mqttetl.Batch) {
	l.mu.Lock()
	l.queue = append(l.queue, b)
	l.mu.Unlock()
	l.commit()
}

func (l *memory) Hurry() {}

func (l *memory) PacketIDs(string) ([]uint16, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ids), nil
}

// hold keeps what is appended from now on, or commits what was kept.
func (l *memory) hold(held bool) {
	l.mu.Lock()
	l.held = held
	l.mu.Unlock()
	l.commit()
}

func (l *memory) commit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.held && len(l.queue) > 0 {
		b := l.queue[0]
		l.queue = l.queue[1:]
		for _, c := range b.IDs {
			l.ids = slices.DeleteFunc(l.ids, func(id uint16) bool { return c.Op == mqttetl.IDsCleared || id == c.ID })
			if c.Op == mqttetl.IDAdded {
				l.ids = append(l.ids, c.ID)
			}
		}
		if b.Len() > 0 {
			records, err := mqttetl.DecodeRecords(nil, bytes.Clone(b.Bytes()), b.Len(), mqttetl.Seq(len(l.records)+1), b.Source)
			if err != nil {
				panic(err)
			}
			l.records = append(l.records, records...)
		}
		b.Done(1, nil)
	}
}

func (l *memory) all() []mqttetl.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records)
}

// pending is how many batches are held.
func (l *memory) pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// counts are Counters that count.
type counts struct {
	messages, acks, reused, badTopics, tooLarge atomic.Int64
}

func (c *counts) HandedOver(t *Tally) {
	c.messages.Add(int64(t.Received[0] + t.Received[1] + t.Received[2]))
}
func (c *counts) Acknowledged(n int, _ []int64) { c.acks.Add(int64(n)) }
func (c *counts) IDReused()                     { c.reused.Add(1) }
func (c *counts) BadTopic()                     { c.badTopics.Add(1) }
func (c *counts) TooLarge()                     { c.tooLarge.Add(1) }

// logLines is a slog target that tests search.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// everything is a Control that takes every packet and keeps a copy.
type everything struct{ packets chan []byte }

func (everything) Admit(byte) error { return nil }

func (c everything) Packet(_ byte, whole, _ []byte) (pause bool, err error) {
	c.packets <- bytes.Clone(whole)
	return true, nil
}

func (everything) Reserved(_, _ []byte, _ int) bool { return true }
func (everything) IDsReused()                       {}

// A line is a Conn that is read, and the other end of it.
type line struct {
	conn    *Conn
	log     *memory
	counts  *counts
	sender  net.Conn
	control everything
	ended   chan error
}

func newSession(log Log, change func(*Config)) (*Session, *counts) {
	n := &counts{}
	cfg := Config{
		Source: "s", Key: "k", Sender: "the sender", ReceiveMaximum: 900, MaxPacket: 64 << 20, Unread: patience,
		Log: log, Logger: slog.New(slog.DiscardHandler), Counters: n, Failed: func(error) {},
	}
	if change != nil {
		change(&cfg)
	}
	return New(cfg), n
}

// newLine is a line over TCP, whose session both sides have kept.
func newLine(t testing.TB, log *memory, v5 bool, change func(*Config)) *line {
	t.Helper()
	s, n := newSession(log, change)
	ours, sender := tcpPair(t)
	w := attach(t, s, ours, sender, v5, true)
	w.log, w.counts = log, n
	return w
}

// attach makes nc the next connection of s.
func attach(t testing.TB, s *Session, nc, sender net.Conn, v5, kept bool) *line {
	t.Helper()
	return attachTo(t, s, nc, sender, v5, kept, func(c everything) Control { return c })
}

// attachTo is attach with a control plane of its own.
func attachTo(t testing.TB, s *Session, nc, sender net.Conn, v5, kept bool, control func(everything) Control) *line {
	t.Helper()
	w := &line{sender: sender, control: everything{make(chan []byte, 1000)}, ended: make(chan error, 1)}
	w.conn = s.Conn(nc, v5, control(w.control))
	if _, err := w.conn.Begin(kept, kept, false); err != nil {
		t.Fatal(err)
	}
	go func() {
		var err error
		for err == nil {
			err = w.conn.Step()
		}
		w.ended <- err
	}()
	t.Cleanup(func() {
		w.conn.Fail(net.ErrClosed)
		_ = sender.Close()
		_ = w.end(t)
		s.Wait()
	})
	return w
}

func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func (w *line) send(t testing.TB, p []byte) {
	t.Helper()
	if _, err := w.sender.Write(p); err != nil {
		t.Fatal(err)
	}
}

// expect reads exactly what the sender is to be answered.
func (w *line) expect(t testing.TB, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	_ = w.sender.SetReadDeadline(time.Now().Add(patience))
	if n, err := io.ReadFull(w.sender, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the sender got % x (%v), want % x", got[:n], err, want)
	}
}

// end waits for the connection's end and returns why.
func (w *line) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-w.ended:
		w.ended <- err
		return err
	case <-time.After(patience):
		t.Fatal("the connection does not end")
	}
	return nil
}

// publishFrame builds a PUBLISH; props are encoded properties, nil for none.
func publishFrame(v5 bool, flags byte, id uint16, topic string, props, payload []byte) []byte {
	m := wire.Message[string]{Flags: flags, Topic: topic, ID: id, Props: props, Payload: payload}
	return m.Append(nil, v5)
}

func puback(ids ...uint16) (p []byte) {
	for _, id := range ids {
		p = wire.AppendAck(p, wire.Puback, id)
	}
	return p
}
