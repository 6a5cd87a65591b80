package transform

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/internal/self"
)

// A jq program is Go that recurses as deep as its values are nested, and may
// allocate all memory in one step: neither can be stopped from within, and both
// end the process. So it is not this one. A worker is a process of this program
// that applies routes to records, one after the other, under limits that end it;
// whoever sent the record that ended it starts another one and goes on.

// Limits of a worker, beyond those of each record. The service has one worker for
// the archive and one for what it publishes.
const (
	workerMemory = 160 << 20       // of address space, beyond what it has when it starts: in all it takes some 200 MiB
	workerStack  = 32 << 20        // of one goroutine
	workerGrace  = 2 * time.Second // beyond the time limit: its worker is stuck in one function of jq
	workerStart  = 10 * time.Second
	startTries   = 3
)

// window bounds what a worker has been sent and has not answered, in requests and bytes.
const (
	window      = 256
	windowBytes = 256 << 10
)

// death is why a worker ended.
type death struct {
	text  string
	stuck bool // it was ended, because it did not answer
	sure  bool // it was the record: to try it again is no use
}

func (d *death) Error() string { return "the jq programs of the route " + d.text }

// worker is the process, and what it has to do. It is for one goroutine.
type worker struct {
	greeting greeting
	child    *child // nil: none
	queue    []request
	bytes    int // of queue
	sent     int // of queue
	// careful: after a death so many requests are sent one at a time, to see
	// which of them it was.
	careful int
	arena   []byte // for answers, which their readers may keep
	chunk   []byte // of requests
}

// request is one record for one route.
type request struct {
	seq      mqttetl.Seq
	route    int
	frame    []byte
	unborn   *decode.UnbornError // of a document that has no birth
	decoding time.Duration       // what was decoded here for it has taken
	deaths   int                 // of workers, when it was the first of their requests
}

// add puts a request at the end of the queue.
func (w *worker) add(r request) {
	w.chunk = w.chunk[:len(w.chunk)+len(r.frame)]
	w.queue = append(w.queue, r)
	w.bytes += len(r.frame)
}

// full says that the worker has enough to do.
func (w *worker) full() bool { return len(w.queue) >= window || w.bytes >= windowBytes }

// low says that it soon has too little.
func (w *worker) low() bool { return len(w.queue) < window/2 && w.bytes < windowBytes/2 }

// space is room for a request behind those before it.
func (w *worker) space(n int) []byte {
	if cap(w.chunk)-len(w.chunk) < n {
		w.chunk = make([]byte, 0, max(n, 64<<10))
	}
	return w.chunk[len(w.chunk):len(w.chunk)]
}

// next says whether the next answer is that of the record and route.
func (w *worker) next(seq mqttetl.Seq, route int) bool {
	return len(w.queue) > 0 && w.queue[0].seq == seq && w.queue[0].route == route
}

// drop takes requests out of the queue. Those that have been sent cost the
// worker its life, since it may be at one of them for long.
func (w *worker) drop(which func(*request) bool) {
	if !slices.ContainsFunc(w.queue, func(r request) bool { return which(&r) }) {
		return
	}
	if w.sent > 0 {
		w.end(nil)
	}
	w.queue = slices.DeleteFunc(w.queue, func(r request) bool { return which(&r) })
	w.bytes = 0
	for i := range w.queue {
		w.bytes += len(w.queue[i].frame)
	}
}

// answer waits for that of the first request and takes it out of the queue. The
// error is what has become of the worker by it.
func (w *worker) answer() (answer []byte, r request, err error) {
	for {
		if err := w.ready(); err != nil {
			return nil, w.pop(), err
		}
		w.send()
		answer, err = w.child.read(w.greeting.TimeLimit+workerGrace, w.room)
		if err == nil {
			w.sent--
			w.careful = max(0, w.careful-1)
			return answer, w.pop(), nil
		}
		suspects := w.sent
		why := w.end(err)
		first := &w.queue[0]
		if first.deaths++; why.stuck || suspects == 1 && (why.sure || first.deaths > 1) {
			return nil, w.pop(), why
		}
		w.careful = suspects
	}
}

func (w *worker) pop() request {
	r := w.queue[0]
	w.queue[0] = request{}
	w.queue = w.queue[1:]
	w.bytes -= len(r.frame)
	return r
}

// room is for an answer. It is never used twice.
func (w *worker) room(n int) []byte {
	const chunk = 64 << 10
	if n > chunk/4 {
		return make([]byte, n)
	}
	if len(w.arena) < n {
		w.arena = make([]byte, chunk)
	}
	p := w.arena[:n:n]
	w.arena = w.arena[n:]
	return p
}

// send sends what is in the queue.
func (w *worker) send() {
	most := len(w.queue)
	if w.careful > 0 {
		most = min(most, 1)
	}
	for w.sent < most {
		p := w.queue[w.sent].frame
		for w.sent++; w.sent < most; w.sent++ {
			next := w.queue[w.sent].frame
			if cap(p)-len(p) < len(next) || &p[:len(p)+1][len(p)] != &next[0] {
				break
			}
			p = p[:len(p)+len(next)] // they stand behind each other
		}
		w.child.requests <- p
	}
}

// ready starts a worker, unless there is one.
func (w *worker) ready() (err error) {
	if w.child != nil {
		return nil
	}
	for n := range startTries {
		if n > 0 {
			time.Sleep(100 * time.Millisecond) // there may have been no memory or process left
		}
		for _, path := range self.Paths() {
			if w.child, err = startChild(path, &w.greeting); err == nil {
				return nil
			}
		}
	}
	return &death{text: fmt.Sprintf("have no process to run in: it cannot be started: %v", err)}
}

// end ends the worker and says why it has ended, given the error of reading from it.
func (w *worker) end(err error) *death {
	if w.child == nil {
		return nil
	}
	d := w.child.end(err)
	w.child, w.sent = nil, 0
	return d
}

// close forgets what there is to do.
func (w *worker) close() {
	w.end(nil)
	w.queue, w.bytes, w.careful = nil, 0, 0
}

// child is the running process.
type child struct {
	cmd      *exec.Cmd
	requests chan []byte
	written  chan struct{}
	pipe     *os.File
	answers  *bufio.Reader
	stderr   firstBytes
}

// WorkCommand is the first argument of a program that is to call Work.
const WorkCommand = "transform-worker"

// isWorker is in the environment of a worker. A program that does not know of
// WorkCommand, such as a test, would otherwise start others without end.
const isWorker = "MQTTETL_WORKER"

func startChild(path string, g *greeting) (*child, error) {
	if os.Getenv(isWorker) != "" {
		return nil, errors.New("a worker starts no worker: does this program call Work?")
	}
	c := &child{cmd: exec.Command(path, WorkCommand), requests: make(chan []byte, window+1), written: make(chan struct{})}
	c.cmd.Stderr = &c.stderr
	c.cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "MALLOC_ARENA_MAX=1", "GOTRACEBACK=none", isWorker+"=1") // each thread takes address space
	// It ends with this process, and not by a signal to the terminal's.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.pipe = out.(*os.File)
	c.answers = bufio.NewReaderSize(c.pipe, 64<<10)
	go func() {
		defer close(c.written)
		for p := range c.requests {
			if _, err := in.Write(p); err != nil {
				break // it has died: whoever reads from it knows
			}
		}
		in.Close()
	}()
	if err := c.greet(g); err != nil {
		return nil, fmt.Errorf("%s: %w: %v", path, err, c.end(err))
	}
	return c, nil
}

// greet tells the worker what it has to know.
func (c *child) greet(g *greeting) error {
	p, err := json.Marshal(g)
	if err != nil {
		return err
	}
	c.requests <- append(binary.LittleEndian.AppendUint32(nil, uint32(len(p))), p...)
	answer, err := c.read(workerStart, func(n int) []byte { return make([]byte, n) })
	if err == nil && len(answer) > 0 {
		err = errors.New(string(answer))
	}
	return err
}

// read returns the next answer, or an error if there is none for so long.
func (c *child) read(patience time.Duration, room func(int) []byte) ([]byte, error) {
	head, _ := c.answers.Peek(min(4, c.answers.Buffered()))
	if len(head) < 4 || c.answers.Buffered() < 4+frameLength(head) {
		c.pipe.SetReadDeadline(time.Now().Add(patience))
	}
	return readFrame(c.answers, room)
}

// end makes sure that the process has ended.
func (c *child) end(err error) *death {
	stuck := errors.Is(err, os.ErrDeadlineExceeded)
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		c.cmd.Process.Kill()
	}
	close(c.requests)
	c.pipe.SetReadDeadline(time.Time{})
	io.Copy(io.Discard, c.pipe) // so that it need not wait for us to write its last words
	c.cmd.Wait()
	<-c.written
	said := c.stderr.String()
	switch {
	case stuck:
		return &death{text: "did not end in time: one function of jq took too long", stuck: true}
	case strings.Contains(said, "stack overflow"):
		return &death{text: fmt.Sprintf("recursed too deep: more than %d MiB of stack", workerStack>>20), sure: true}
	case strings.Contains(said, "out of memory"), strings.Contains(said, "too many address space collisions"), // the latter and the next with -race
		strings.Contains(said, "ThreadSanitizer failed to allocate"),
		strings.Contains(said, "SIGSEGV"): // Go does not look at each allocation of its own
		return &death{text: fmt.Sprintf("needed too much memory: more than %d MiB", workerMemory>>20), sure: true}
	}
	line, _, _ := strings.Cut(said, "\n")
	return &death{text: fmt.Sprintf("ended their process: %v %s", c.cmd.ProcessState, line)}
}

// firstBytes keeps the first of what is written.
type firstBytes struct{ bytes.Buffer }

func (b *firstBytes) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, 4096-b.Len()))])
	return len(p), nil
}

// thisBuild tells this program from another.
func thisBuild() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.String()
}
