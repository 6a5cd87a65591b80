package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/internal/dial"
)

// Names of everything that a run makes on a server: they begin with these and
// go on with the run.
const (
	topicRoot  = "mqttetl-bench"
	streamRoot = "MQTTETL_BENCH_"
	dirRoot    = "mqttetl-bench-"
)

// owner marks what a run has made, in the description of a stream and in a file
// of its directory, so that the next run knows what a killed one has left.
type owner struct {
	Run   string    `json:"run"`
	Host  string    `json:"host"`
	PID   int       `json:"pid"`
	Ticks string    `json:"ticks"` // start of the process, field 22 of /proc/PID/stat
	Begun time.Time `json:"begun"`
	MQTT  string    `json:"mqtt,omitempty"` // given broker with the pipeline's session
	TLS   dial.TLS  `json:"tls,omitzero"`   // of that
}

// mark is the owner for others to read: without the broker's URL, which may have
// a password.
func (w *world) mark() string {
	o := w.owner
	o.MQTT, o.TLS = "", dial.TLS{}
	return o.String()
}

// markText is how a description begins that has an owner behind it.
const markText = "mqttetl bench, removed at its end: "

func newOwner(run string) owner {
	host, _ := os.Hostname()
	return owner{Run: run, Host: host, PID: os.Getpid(), Ticks: startTicks(os.Getpid()), Begun: time.Now().UTC().Truncate(time.Second)}
}

func (o owner) String() string {
	b, _ := json.Marshal(o) // strings and numbers only
	return markText + string(b)
}

// readOwner reads an owner from a description.
func readOwner(text string) (o owner, ok bool) {
	rest, ok := strings.CutPrefix(text, markText)
	return o, ok && json.Unmarshal([]byte(rest), &o) == nil && o.Run != ""
}

// elsewhere is after which time a run on another machine is taken for over.
const elsewhere = 24 * time.Hour

// gone tells whether the run is over.
func (o owner) gone() bool {
	host, _ := os.Hostname()
	if o.Host != host {
		return time.Since(o.Begun) > elsewhere
	}
	ticks := startTicks(o.PID)
	return ticks == "" || ticks != o.Ticks
}

// startTicks is when a process was started, "" if there is none.
func startTicks(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	const start = 22 - 3 // behind "pid (name) "
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) <= start || fields[0] == "Z" {
		return ""
	}
	return fields[start]
}

// askTime bounds a request to JetStream.
const askTime = 10 * time.Second

// mostListed is what an answer of JetStream may have: 256 streams are listed in one.
const mostListed = 4 << 20

// createStream makes the run's stream for a trial; it is gone after it.
func (t *trial) createStream(at natsAt, storage jetstream.StorageType) error {
	return t.ask(at, func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: t.stream(), Subjects: []string{t.subjectPrefix() + ".>"}, Storage: storage, Description: t.mark(),
		})
		if err != nil {
			return fmt.Errorf("create stream %s: %w", t.stream(), err)
		}
		t.cleanup = append(t.cleanup, func() error { return t.deleteStream(at) })
		return nil
	})
}

func (w *world) stream() string { return streamRoot + strings.ToUpper(w.run) }

func (t *trial) deleteStream(at natsAt) error {
	err := t.ask(at, func(ctx context.Context, js jetstream.JetStream) error { return js.DeleteStream(ctx, t.stream()) })
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("remove stream %s: %w", t.stream(), err)
	}
	return nil
}

// ask makes requests to JetStream with a connection of their own, also when the
// run has been interrupted.
func (w *world) ask(at natsAt, f func(context.Context, jetstream.JetStream) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	nc, err := connectNATS(&natsDialer{at: at, m: new(meter), most: mostListed}, func(error) {}) // which the request will tell
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return f(ctx, js)
}

// removeStreams removes what killed runs have left on a server.
func (w *world) removeStreams(at natsAt) error {
	return w.ask(at, func(ctx context.Context, js jetstream.JetStream) error {
		list := js.ListStreams(ctx)
		var old []string
		for s := range list.Info() {
			o, ok := readOwner(s.Config.Description)
			if ok && strings.HasPrefix(s.Config.Name, streamRoot) && o.gone() {
				old = append(old, s.Config.Name)
			}
		}
		if err := list.Err(); err != nil {
			return nil // no JetStream: the cases that need it will say so
		}
		for _, name := range old {
			if err := js.DeleteStream(ctx, name); err != nil {
				return fmt.Errorf("remove stream %s of a killed run: %w", name, err)
			}
			w.note("removed stream %s, left by a run that was killed", name)
		}
		return nil
	})
}

// ownerFile is in the directory of a run.
const ownerFile = "owner"

// makeDir makes the directory of this run below base.
func (w *world) makeDir(base string) error {
	dir, err := os.MkdirTemp(base, dirRoot+w.run+"-")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	w.dir = dir
	return os.WriteFile(filepath.Join(dir, ownerFile), []byte(w.owner.String()), 0o600)
}

// removeDirs removes the directories of killed runs below base, and what they
// have left on a given broker.
func (w *world) removeDirs(ctx context.Context, base string) {
	dirs, _ := filepath.Glob(filepath.Join(base, dirRoot+"*"))
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, ownerFile))
		if err != nil {
			continue // another user's
		}
		o, ok := readOwner(string(text))
		if host, _ := os.Hostname(); !ok || o.Host != host || !o.gone() {
			continue
		}
		if o.MQTT != "" {
			if err := endSession(ctx, o.MQTT, o.TLS, pipelineID(o.Run)); err != nil {
				w.note("%s of a killed run stays, its session on %s cannot be ended: %v", dir, redacted(o.MQTT), err)
				continue
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			w.note("%s of a killed run stays: %v", dir, err)
			continue
		}
		w.note("removed %s, left by a run that was killed", dir)
	}
}
