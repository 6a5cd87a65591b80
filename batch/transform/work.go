package transform

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
)

// Work is the worker: it applies routes to the records that an Applier sends it,
// until in ends. The limits that it sets to itself are those of the whole process.
func Work(in io.Reader, out io.Writer) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM) // it ends when its input does
	b := &bench{in: bufio.NewReaderSize(in, 64<<10), out: out}
	p, err := b.read()
	if err != nil {
		return err
	}
	err = b.open(p)
	if err == nil {
		err = limitProcess()
	}
	if err != nil {
		return errors.Join(err, b.tell([]byte(err.Error())))
	}
	if err := b.tell(nil); err != nil {
		return err
	}
	for err == nil {
		err = b.work()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// limitProcess bounds what the process may take. Go reserves much address space
// when it starts, and from then on just before it uses it; a limit on data is
// not looked at when it begins to.
func limitProcess() error {
	debug.SetMaxStack(workerStack)
	debug.SetMemoryLimit(workerMemory * 3 / 4)
	debug.SetGCPercent(400)                                     // there is little that stays, and much to collect
	os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // this one first, not the service; where that is possible
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	var has uint64
	if _, after, ok := strings.Cut(string(status), "\nVmSize:"); ok {
		fmt.Sscan(after, &has)
	}
	limit := has<<10 + workerMemory
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return err
	}
	return syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: limit, Max: limit})
}

// bench is what a worker works at.
type bench struct {
	in  *bufio.Reader
	out io.Writer
	a   *Applier
	req []byte // room for a request

	mu      sync.Mutex
	pending []byte // answers that have not been written
	late    bool   // flush is due by a timer
	err     error  // of writing
}

func (b *bench) read() ([]byte, error) {
	return readFrame(b.in, func(n int) []byte {
		if cap(b.req) < n || cap(b.req) > 1<<20 && n < 1<<16 {
			b.req = make([]byte, n, max(n, 64<<10))
		}
		return b.req[:n]
	})
}

// open makes the Applier.
func (b *bench) open(p []byte) error {
	var g greeting
	if err := json.Unmarshal(p, &g); err != nil {
		return err
	}
	if g.Build != thisBuild() {
		return errors.New("another program answers")
	}
	for i := range g.Routes {
		g.Routes[i].decoded = handsDocuments(g.Routes[i].Decode)
	}
	set, err := Compile(g.Routes)
	if err != nil {
		return err
	}
	b.a, err = set.Applier(Options{Objects: g.Objects, TimeLimit: g.TimeLimit, NoSuspend: true, works: true})
	return err
}

// Answers are written when there is nothing to do, or there are many of them, or
// when the next one does not come.
const (
	manyAnswers = 64 << 10
	answerDelay = 2 * time.Millisecond
)

// work answers one request.
func (b *bench) work() error {
	if b.in.Buffered() == 0 {
		if err := b.flush(); err != nil {
			return err
		}
	}
	p, err := b.read()
	if err != nil {
		return err
	}
	b.flushLater()
	m, was, took, err := b.a.answer(p)
	if err != nil {
		return err
	}
	b.mu.Lock()
	var at int
	b.pending, at = beginFrame(b.pending)
	b.pending = b.a.appendAnswer(b.pending, m.w, &was, took)
	endFrame(b.pending, at)
	full := len(b.pending) > manyAnswers
	b.mu.Unlock()
	if full {
		return b.flush()
	}
	return nil
}

// flushLater has the answers written that there are, if the next one takes long.
func (b *bench) flushLater() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) > 0 && !b.late {
		b.late = true
		time.AfterFunc(answerDelay, func() { b.flush() })
	}
}

// tell writes one answer.
func (b *bench) tell(p []byte) error {
	b.pending = append(binary.LittleEndian.AppendUint32(b.pending, uint32(len(p))), p...)
	return b.flush()
}

func (b *bench) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.late = false
	if len(b.pending) > 0 && b.err == nil {
		_, b.err = b.out.Write(b.pending)
	}
	if b.pending = b.pending[:0]; cap(b.pending) > 1<<20 {
		b.pending = nil
	}
	return b.err
}

// answer does one request. The answer is what is new in the Applier, and in the
// counts of the route.
func (a *Applier) answer(p []byte) (m *match, was Stats, took time.Duration, err error) {
	r := wire{p: p}
	a.Reset()
	rec := &a.rec
	route, only := r.request(rec)
	if m = a.matchOf(rec, route); r.err != nil || m == nil {
		return nil, was, 0, errWire
	}
	was = m.w.stats
	watch := stopwatch{begun: time.Now()}
	if m.w.watch > 0 { // after a slow one: asking costs a twentieth of such a record
		m.w.watch--
		watch = startWatch()
	}
	a.begun = watch.begun
	a.only = only
	a.route(m, rec)
	a.only = nil
	wall, used := watch.took()
	if wall >= lazyRecord {
		m.w.watch = watched
	}
	return m, was, used, nil
}

// matchOf is how the route takes the record, nil if it does not.
func (a *Applier) matchOf(rec *mqttetl.Record, route int) *match {
	matches := a.matches(rec.Topic)
	i := slices.IndexFunc(matches, func(m match) bool { return m.w.index == route })
	if i < 0 {
		return nil
	}
	return &matches[i]
}

// The flags of an answer.
const (
	hasFailure = 1 << iota
	hasNulls
	outOfTime
	isMended
	isUnset
	slowDecoding
)

// appendAnswer appends all that the route has made of one record.
func (a *Applier) appendAnswer(dst []byte, w *working, was *Stats, took time.Duration) []byte {
	at := len(dst)
	var flags byte
	f := Failure{}
	if len(a.Failures) > 0 {
		f, flags = a.Failures[0], hasFailure
		if f.Nulls {
			flags |= hasNulls
		}
		if errors.Is(f.Err, errTime) {
			flags |= outOfTime
		}
		if errors.Is(f.Err, decode.ErrSlow) {
			flags |= slowDecoding
		}
	}
	if w.stats.Mended > was.Mended {
		flags |= isMended
	}
	if w.stats.Unset > was.Unset {
		flags |= isUnset
	}
	dst = binary.AppendUvarint(append(dst, flags), uint64(took))
	dst = binary.AppendUvarint(dst, uint64(a.limit.spent))
	dst = binary.AppendUvarint(dst, uint64(a.load))
	dst = binary.AppendUvarint(dst, w.stats.Rows-was.Rows)
	dst = binary.AppendUvarint(dst, uint64(w.rows.Len()))
	for i := range w.rows.Len() {
		for _, v := range w.rows.Row(i)[1:] {
			dst = appendValue(dst, v)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(a.Objects)))
	for i := range a.Objects {
		dst = binary.AppendUvarint(dst, uint64(a.Objects[i].N))
		dst = appendText(dst, a.Objects[i].Body)
	}
	if flags&hasFailure != 0 {
		dst = appendText(appendText(dst, cut(f.Err.Error())), f.Part)
	}
	dst = binary.AppendUvarint(dst, uint64(len(a.Notes)))
	for _, n := range a.Notes {
		dst = appendText(append(dst, byte(n.Kind)), cut(n.Text))
	}
	if len(dst)-at > maxFrame && len(a.Failures) == 0 {
		a.Reset()
		a.Failures = append(a.Failures, Failure{Err: errSize})
		return a.appendAnswer(dst[:at], w, &w.stats, took)
	}
	return dst
}

// cut leaves more of an error's text than anybody keeps.
func cut(s string) string { return s[:min(len(s), 8*reasonLimit)] }
