package prove

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

// recording is what the service has done to its files, and when its
// acknowledgements left. Moments are lines of the trace.
type recording struct {
	changes   []change // in the order in which they were begun
	syncs     []int    // moments just before something became durable
	acks      []ack
	forwarded []forwarding
}

// ack is a message that the service has acknowledged to the broker, and when
// it began to.
type ack struct {
	at      int
	payload string
}

// forwarding is a record that has been sent to the stream.
type forwarding struct {
	at  int
	seq uint64
}

// tracedCalls are those that change files or move bytes of connections.
const tracedCalls = "trace=open,openat,read,readv,write,writev,pwrite64,pwritev,pwritev2,lseek,ftruncate,fallocate," +
	"fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat"

// Messages of a recording: in each of its two runs some bursts, behind each of
// which the archive and the stream catch up and the log is trimmed, and one
// more within which the service is killed.
const (
	bursts     = 4
	burstSize  = 100
	recordTime = 5 * time.Minute // within which both runs must end
)

// record runs the service under strace from an empty directory, kills it and
// runs it once more.
func record(ctx context.Context, bin, dir string, window int) (*recording, error) {
	w, err := newWorld(bin, setup{dir: dir, settings: service.Settings{Window: window}})
	if err != nil {
		return nil, err
	}
	defer w.close()
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	r := recorder{dir: w.Dir, broker: "->" + w.in.Addr, nats: "->" + w.out.Addr, tap: newTap(),
		names: map[string]int{}, connections: map[string]int{}}
	for run := range 2 {
		trace := filepath.Join(dir, fmt.Sprintf("trace%d", run))
		w.Wrap = []string{"strace", "-f", "-qqq", "--seccomp-bpf", "-yy", "-xx", "-s", "4194304", "-o", trace, "-e", tracedCalls}
		if err := w.start(ctx); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, w.Output())
		}
		if err := w.bursts(ctx); err != nil {
			return nil, err
		}
		if err := w.killTraced(); err != nil {
			return nil, err
		}
		if err := r.read(trace, run); err != nil {
			return nil, err
		}
	}
	r.dateChanges()
	return &r.recording, nil
}

// bursts publishes until the moment to kill the service.
func (w *world) bursts(ctx context.Context) error {
	for range bursts {
		before, err := w.Status(ctx)
		if err != nil {
			return err
		}
		if err := w.pub.Publish(ctx, w.pub.Acked()+burstSize); err != nil {
			return err
		}
		// What a control lost in the run before is not waited for.
		if _, err := w.Await(ctx, "drained", func(s service.Status) bool {
			return s.Log.Last >= before.Log.Last+burstSize && s.Archive.Lag == 0 && s.NATS.Lag == 0
		}); err != nil {
			return err
		}
	}
	return w.pub.Publish(ctx, w.pub.Acked()+burstSize)
}

// killTraced kills the service and lets strace write down how it ended.
func (w *world) killTraced() error {
	p, err := os.ReadFile(filepath.Join(w.LogDir(), "mqttetl.lock"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(p))
	if err != nil {
		return err
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	_, err = w.Exited(context.Background())
	return err
}

// recorder turns traces into a recording.
type recorder struct {
	recording
	dir          string // of the service
	broker, nats string // how their connections are shown

	tap         *tap
	connections map[string]int
	names       map[string]int // as the service sees them
	files       int
	line        int
	fsyncs      []fsync
	open        map[int]opened
}

// opened is a descriptor.
type opened struct {
	at    int64 // its offset
	dsync bool
}

// fsync is a sync of a file or directory.
type fsync struct {
	begin, end int
	owner      any
}

// read adds a trace. Calls count from where they began, except reads of
// connections.
func (r *recorder) read(trace string, run int) error {
	calls, next, err := readTrace(trace, r.line)
	if err != nil {
		return err
	}
	r.line, r.open = next, map[int]opened{}
	key := func(c *tracedCall) int {
		if strings.HasPrefix(c.name, "read") || strings.HasPrefix(c.name, "open") {
			return c.end
		}
		return c.begin
	}
	sort.SliceStable(calls, func(i, j int) bool { return key(&calls[i]) < key(&calls[j]) })
	for i := range calls {
		c := &calls[i]
		if fd, name, rest, ok := descriptor(c.args); ok && fd >= 0 && strings.HasPrefix(name, "TCP") {
			r.network(c, fmt.Sprint(run, name), name, rest)
		} else if err := r.file(c, fd, name, rest); err != nil {
			return fmt.Errorf("line %d of the trace: %s(%.200s): %w", c.begin, c.name, c.args, err)
		}
	}
	return nil
}

var msgID = regexp.MustCompile(`Nats-Msg-Id: ?[0-9a-f]{16}-(\d+)`)

// network takes what passes a connection.
func (r *recorder) network(c *tracedCall, connection, name, rest string) {
	pieces, _ := texts(rest)
	data := bytes.Join(pieces, nil)
	reads := strings.HasPrefix(c.name, "read")
	if reads && c.result <= 0 {
		return
	}
	switch {
	case strings.HasSuffix(name, r.nats) && !reads:
		for _, m := range msgID.FindAllSubmatch(data, -1) {
			seq, _ := strconv.ParseUint(string(m[1]), 10, 64)
			r.forwarded = append(r.forwarded, forwarding{c.begin, seq})
		}
	case strings.HasSuffix(name, r.broker):
		if _, ok := r.connections[connection]; !ok {
			r.connections[connection] = len(r.connections)
		}
		d := servers.Up
		if reads {
			d = servers.Down
		}
		r.tap.piece(r.connections[connection], d, data)
		for _, payload := range r.tap.acknowledged() {
			r.acks = append(r.acks, ack{c.begin, payload})
		}
		clear(r.tap.acked)
	}
}

// relative is the name of one of the files that a crash state consists of.
func (r *recorder) relative(path string) (name string, ok bool) {
	name, ok = strings.CutPrefix(path, r.dir+"/")
	base := filepath.Base(name)
	return name, ok && (base == "data.mdb" || strings.HasPrefix(base, "telemetry.db")) && !strings.HasSuffix(base, "-shm")
}

// file takes a call that may change one of the files.
func (r *recorder) file(c *tracedCall, fd int, path, rest string) error {
	switch c.name {
	case "open", "openat":
		return r.opens(c)
	case "rename", "renameat", "renameat2":
		r.renames(c)
		return nil
	case "unlink", "unlinkat":
		r.removes(c)
		return nil
	case "fsync", "fdatasync":
		if c.result == 0 {
			r.synced(c, path)
		}
		return nil
	}
	name, ok := r.relative(path)
	if !ok || c.result < 0 && c.name != "pwrite64" && c.name != "writev" {
		return nil
	}
	file, ok := r.names[name]
	if !ok {
		return fmt.Errorf("file %s was never created", name)
	}
	return r.modifies(c, fd, file, rest)
}

// modifies takes a call that changes the bytes, the length or the offset of a file.
func (r *recorder) modifies(c *tracedCall, fd, file int, rest string) error {
	o := r.open[fd]
	defer func() { r.open[fd] = o }()
	pieces, behind := texts(rest)
	data := bytes.Join(pieces, nil)
	n := numbers(behind)
	if strings.Contains(c.name, "write") && c.result >= 0 { // less than all, in a process that is being killed
		data = data[:min(c.result, int64(len(data)))]
	}
	switch c.name {
	case "read", "readv":
		o.at += max(0, c.result)
	case "lseek":
		o.at = c.result
	case "write", "writev":
		r.writes(c, file, o.at, data, o.dsync)
		o.at += int64(len(data))
	case "pwrite64", "pwritev", "pwritev2":
		if len(n) == 0 {
			return fmt.Errorf("no offset")
		}
		r.writes(c, file, n[len(n)-1], data, o.dsync)
	case "ftruncate":
		r.add(c, change{kind: resized, file: file, at: n[0]})
	case "fallocate":
		r.add(c, change{kind: resized, file: file, at: n[len(n)-1] + n[len(n)-2], grow: true})
	}
	return nil
}

const pageBytes = 4096 // what reaches the drive independently of its neighbours

// writes splits a write into pages.
func (r *recorder) writes(c *tracedCall, file int, at int64, data []byte, dsync bool) {
	for len(data) > 0 {
		n := min(len(data), int(pageBytes-at%pageBytes))
		w := change{kind: written, file: file, at: at, data: data[:n]}
		if dsync && c.result >= 0 {
			w.durable = c.end
		}
		r.add(c, w)
		at, data = at+int64(n), data[n:]
	}
}

func (r *recorder) add(c *tracedCall, x change) {
	x.begin, x.returned = c.begin, c.end
	r.changes = append(r.changes, x)
}

// opens notes the descriptor and, where the file is new, its name.
func (r *recorder) opens(c *tracedCall) error {
	if c.result < 0 {
		return nil
	}
	paths := c.paths()
	if len(paths) == 0 {
		return fmt.Errorf("no path")
	}
	name, ok := r.relative(paths[0])
	if !ok {
		return nil
	}
	r.open[int(c.result)] = opened{dsync: strings.Contains(c.args, "O_DSYNC") || strings.Contains(c.args, "O_SYNC")}
	if _, known := r.names[name]; !known {
		if !strings.Contains(c.args, "O_CREAT") {
			return fmt.Errorf("file %s was never created", name)
		}
		r.files++
		r.names[name] = r.files
		r.add(c, change{kind: named, file: r.files, name: name})
	}
	return nil
}

func (r *recorder) renames(c *tracedCall) {
	paths := c.paths()
	if c.result != 0 || len(paths) != 2 {
		return
	}
	from, ok1 := r.relative(paths[0])
	to, ok2 := r.relative(paths[1])
	if !ok1 || !ok2 {
		return
	}
	r.add(c, change{kind: renamed, file: r.names[from], name: from, to: to})
	r.names[to] = r.names[from]
	delete(r.names, from)
}

func (r *recorder) removes(c *tracedCall) {
	paths := c.paths()
	if c.result != 0 || len(paths) == 0 {
		return
	}
	if name, ok := r.relative(paths[0]); ok {
		r.add(c, change{kind: removed, file: r.names[name], name: name})
		delete(r.names, name)
	}
}

// synced notes a sync of a file or a directory.
func (r *recorder) synced(c *tracedCall, path string) {
	if name, ok := r.relative(path); ok {
		r.fsyncs = append(r.fsyncs, fsync{c.begin, c.end, r.names[name]})
		return
	}
	if dir, err := filepath.Rel(r.dir, path); err == nil && !strings.HasPrefix(dir, "..") {
		r.fsyncs = append(r.fsyncs, fsync{c.begin, c.end, dir})
	}
}

// never is later than any moment.
const never = int(^uint(0) >> 1)

// dateChanges finds out from when on each change is durable: the end of the first
// sync of its file or directory that began when the change had returned.
func (r *recorder) dateChanges() {
	moments := map[int]bool{r.line: true}
	for i := range r.changes {
		c := &r.changes[i]
		if c.durable == 0 {
			c.durable = r.firstSync(c)
		}
		if c.kind == renamed { // and with it the name it had before
			for j := range r.changes[:i] {
				if old := &r.changes[j]; old.kind == named && old.file == c.file {
					old.durable = min(old.durable, c.durable)
				}
			}
		}
		if c.durable != never {
			moments[c.durable] = true
		}
	}
	for m := range moments {
		r.syncs = append(r.syncs, m)
	}
	sort.Ints(r.syncs)
}

func (r *recorder) firstSync(c *change) (end int) {
	end = never
	for _, s := range r.fsyncs {
		if s.owner == c.owner() && s.begin > c.returned {
			end = min(end, s.end)
		}
	}
	return end
}
