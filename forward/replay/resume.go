package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// Plan is what a replay does, as its resume file keeps it: another replay must
// not go on from this one's position, and times like "2h ago" must mean the
// same at the second start.
type Plan struct {
	Settings  string            // all that decides what is sent where, in one string
	LogID     string            // of the log whose records are played
	IDs       string            // what Nats-Msg-Id begins with
	Selection mqttetl.Selection // with To set: what came later is not played
	Key       []byte            `json:",omitempty"` // by which its messages in a stream are recognised; older builds have written none
}

// Position is how far a replay has come.
type Position struct {
	Pass   uint64      // how often the selection has been played to its end
	Seq    mqttetl.Seq // in this pass, everything up to it is confirmed
	Played uint64      // records of this pass that are confirmed or refused
	Done   bool
}

// Resume is an open resume file: a line of JSON with the plan, which is written
// once, and two lines of fixed length that take the position in turn. Each has
// a number and a checksum, so that a line that was cut in two by a power failure
// is known for that and the other one counts.
type Resume struct {
	Plan     Plan
	file     *os.File
	slots    int64 // offset of the first
	number   uint64
	position Position
	synced   time.Time
	unsynced bool // the position is not durable yet
}

const (
	slotSize  = 128
	syncEvery = 250 * time.Millisecond
)

// ErrNoResume: a file is none that OpenResume has made. It stays as it is.
var ErrNoResume = errors.New("not a resume file")

// OtherReplay is the error of a resume file that another replay has made.
type OtherReplay struct{ Was, Is Plan }

func (o *OtherReplay) Error() string {
	return fmt.Sprintf("it is of another replay (%s)", o.Was.Settings)
}

// CheckResume refuses a path at which there can be no resume file: there is
// something that is no regular file, nor a symbolic link to one. found says that
// there is a regular file, whatever is in it.
func CheckResume(path string) (found bool, err error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return false, notRegular(path, "a symbolic link to nothing")
		}
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("resume file: %w", err)
	}
	switch m := st.Mode(); {
	case m.IsRegular():
		return true, nil
	case m.IsDir():
		err = notRegular(path, "a directory")
	case m&fs.ModeNamedPipe != 0:
		err = notRegular(path, "a FIFO")
	case m&fs.ModeDevice != 0:
		err = notRegular(path, "a device")
	default:
		err = notRegular(path, "no regular file")
	}
	return false, err
}

func notRegular(path, what string) error {
	return mqttetl.WithHint(fmt.Errorf("%s: %s: %w", path, what, ErrNoResume), "name a file that is absent, it is made")
}

// OpenResume opens the resume file at path. Where there is none it makes one
// for the plan. Where there is one it must be of the same settings and log, or
// the error is an OtherReplay; its own selection and ids then count, and stand
// in Plan. What is there and no resume file is ErrNoResume, and one that is
// broken mqttetl.ErrDamaged. While another Resume is open at the path it is
// mqttetl.ErrLocked.
func OpenResume(path string, plan Plan) (*Resume, error) {
	found, err := CheckResume(path)
	if err != nil {
		return nil, err
	}
	if !found {
		if err := create(path, plan); err != nil {
			return nil, fmt.Errorf("resume file: %w", err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("resume file: %w", err)
	}
	r := &Resume{}
	if err := r.parse(content); err != nil {
		hint := "move it away to begin anew"
		if errors.Is(err, ErrNoResume) {
			hint = "--resume names another file, which is made; this one stays as it is"
		}
		return nil, mqttetl.WithHint(fmt.Errorf("%s: %w", path, err), hint)
	}
	if r.Plan.Settings != plan.Settings || r.Plan.LogID != plan.LogID {
		return nil, fmt.Errorf("resume file %s: %w", path, &OtherReplay{r.Plan, plan})
	}
	return r, r.lock(path)
}

// lock opens the file for Record. It is locked until it is closed.
func (r *Resume) lock(path string) (err error) {
	if r.file, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
		return fmt.Errorf("resume file: %w", err)
	}
	err = unix.Flock(int(r.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = mqttetl.WithHint(mqttetl.ErrLocked, "another replay writes its position there: wait for its end, or give this one a file of its own")
	}
	if err != nil {
		_ = r.file.Close() // nothing was written
		return fmt.Errorf("resume file %s: %w", path, err)
	}
	return nil
}

// create writes a new file, which has its name only when it is whole. path is
// known to be free.
func create(path string, plan Plan) error {
	head, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	content := append(append(head, '\n'), slot(1, Position{})...)
	_, err = f.Write(append(content, slot(0, Position{})...))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// slot is a position as a line of slotSize bytes.
func slot(number uint64, p Position) []byte {
	done := 0
	if p.Done {
		done = 1
	}
	line := fmt.Sprintf("%020d pass %020d seq %020d played %020d done %d ", number, p.Pass, p.Seq, p.Played, done)
	line += fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(line)))
	return fmt.Appendf(nil, "%-*s\n", slotSize-1, line)
}

// beginning is what a Plan begins with as JSON, and so every resume file.
const beginning = `{"Settings":`

// parse reads the plan and the newer of the two positions.
func (r *Resume) parse(content []byte) error {
	if !bytes.HasPrefix(content, []byte(beginning)) {
		return ErrNoResume
	}
	head, slots, ok := bytes.Cut(content, []byte("\n"))
	if !ok || len(slots) != 2*slotSize {
		return fmt.Errorf("a resume file of %d bytes, which cannot be: %w", len(content), mqttetl.ErrDamaged)
	}
	if err := json.Unmarshal(head, &r.Plan); err != nil {
		return fmt.Errorf("resume file: %w: %w", mqttetl.ErrDamaged, err)
	}
	r.slots = int64(len(head) + 1)
	found := false
	for i := range 2 {
		number, p, ok := parseSlot(slots[i*slotSize : (i+1)*slotSize])
		if ok && (!found || number > r.number) {
			found, r.number, r.position = true, number, p
		}
	}
	if !found {
		return fmt.Errorf("resume file: no position is whole: %w", mqttetl.ErrDamaged)
	}
	return nil
}

func parseSlot(line []byte) (number uint64, p Position, ok bool) {
	var sum uint32
	var done int
	n, err := fmt.Sscanf(string(line), "%d pass %d seq %d played %d done %d %x", &number, &p.Pass, &p.Seq, &p.Played, &done, &sum)
	p.Done = done == 1
	return number, p, err == nil && n == 6 && bytes.Equal(line, slot(number, p))
}

// Position is what the file says.
func (r *Resume) Position() Position { return r.position }

// Record writes a position down and, if it is time, makes it durable.
func (r *Resume) Record(p Position) error {
	if p == r.position {
		return nil
	}
	number := r.number + 1
	if _, err := r.file.WriteAt(slot(number, p), r.slots+int64(number+1)%2*slotSize); err != nil {
		return fmt.Errorf("resume file: %w", err)
	}
	r.number, r.position, r.unsynced = number, p, true
	if r.due() > 0 {
		return nil
	}
	return r.Sync()
}

// due is how long the position may still wait for Sync.
func (r *Resume) due() time.Duration { return time.Until(r.synced.Add(syncEvery)) }

// Sync makes the position durable.
func (r *Resume) Sync() error {
	r.synced, r.unsynced = time.Now(), false
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("resume file: %w", err)
	}
	return nil
}

// Close syncs and closes the file.
func (r *Resume) Close() error { return errors.Join(r.Sync(), r.file.Close()) }
