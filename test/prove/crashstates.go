package prove

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/service"
)

func crashStatesCampaign() *Campaign {
	return &Campaign{
		Name: "crashstates",
		Injects: "every state a crash could leave, rebuilt from the recorded writes and syncs: of what is not synced none, all, a prefix, all but one, " +
			"one alone, a page torn at 512 bytes, for each file and combined; each is verified, started and drained. Trials are states",
		Short: 300, Long: 20_000,
		Skip: needStrace,
		Run:  crashStates,
		Controls: []Control{
			{Name: "log with NoMetaSync", Replace: also(noMetaSync), Trials: 3000},
			{Name: "archive with synchronous=NORMAL, log trimmed", Replace: syncNormal, Trials: 3000},
			{Name: "acknowledge before the commit", Replace: also(e2e.EarlyAck), Trials: 3000},
		},
	}
}

// smallSteps is the product with a write-ahead log of the archive that is
// copied into the file every 16 KiB instead of 8 MiB, so that a short recording holds many.
var smallSteps = map[string][2]string{"sink/archive/checkpoint.go": {"walStep = 8 << 20", "walStep = 16 << 10"}}

// also is a broken build with small steps, where they do not mend what is broken: the
// write-ahead log is synced before it is copied.
func also(replace map[string][2]string) map[string][2]string {
	all := maps.Clone(replace)
	maps.Copy(all, smallSteps)
	return all
}

// statesOfRecording are tried of one recording before another one is made.
const statesOfRecording = 2000

var recordedWindows = []int{7, 30, 100, 900}

// crashStates makes recordings and tries states of each.
func crashStates(ctx context.Context, e Env) (t Tally, err error) {
	bin := e.Bin
	if e.Control == "" {
		if bin, err = service.Build(ctx, e.Dir, smallSteps); err != nil {
			return t, err
		}
	}
	opener, err := startOpener(ctx, e.Dir)
	if err != nil {
		return t, err
	}
	defer opener.close()
	for e.More(&t) {
		if err := crashStatesOfOne(ctx, e, bin, opener, &t); err != nil {
			return t, err
		}
	}
	return t, nil
}

// crashStatesOfOne makes one recording and tries states of it. The seed chooses
// window and states; what the service did meanwhile is different each time.
func crashStatesOfOne(ctx context.Context, e Env, bin string, o *opener, t *Tally) error {
	rnd := e.Trial(t.Trials)
	dir, err := e.trialDir(t.Trials)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	window := recordedWindows[rnd.IntN(len(recordedWindows))]
	r, err := record(ctx, bin, dir, window)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	all := r.states()
	e.Log("recording with window %d: %d changes, %d acknowledged, %d moments, %d states", window, len(r.changes), len(r.acks), len(r.syncs), len(all))
	if len(all) == 0 || len(r.acks) == 0 {
		return fmt.Errorf("record: nothing recorded")
	}
	t.Messages += len(r.acks)
	rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:min(len(all), statesOfRecording, e.Trials-t.Trials)]
	slices.SortStableFunc(all, func(a, b crashState) int { return a.at - b.at })
	return r.try(ctx, e, all, o, rnd, fmt.Sprintf("recording %d (window %d)", t.Trials, window), t)
}

// crashState says which of the changes to one file or directory that were not durable at a moment
// have reached the drive. For the other files that is drawn by lot.
type crashState struct {
	at    int // the moment
	owner any
	choice
}

// choice is a choice of changes.
type choice struct {
	how string
	n   int
}

func (c choice) String() string { return fmt.Sprintf("%s %d", c.how, c.n) }

// states are all that are tried for one file after the other.
func (r *recording) states() (all []crashState) {
	for _, at := range r.syncs {
		count := map[any]int{}
		var owners []any
		for _, c := range r.pending(at) {
			if count[c.owner()] == 0 {
				owners = append(owners, c.owner())
			}
			count[c.owner()]++
		}
		for _, owner := range owners {
			for _, c := range choices(count[owner]) {
				all = append(all, crashState{at, owner, c})
			}
		}
	}
	return all
}

// choices are those that there are of n changes.
func choices(n int) []choice {
	all := []choice{{"none of", n}, {"all", n}}
	for i := range n {
		all = append(all, choice{"torn behind", i})
		if n > 1 {
			all = append(all, choice{"all but", i}, choice{"only", i})
		}
		if 0 < i {
			all = append(all, choice{"first", i})
		}
	}
	return all
}

// takes says whether the i-th change has reached the drive. torn: a part of it.
func (c choice) takes(i int) (whole, torn bool) {
	switch c.how {
	case "all":
		return true, false
	case "first":
		return i < c.n, false
	case "torn behind":
		return i < c.n, i == c.n
	case "all but":
		return i != c.n, false
	case "only":
		return i == c.n, false
	}
	return false, false
}

// pending are the changes that had been begun at a moment and were not durable.
func (r *recording) pending(at int) (all []*change) {
	for i := range r.changes {
		if c := &r.changes[i]; c.begin < at && c.durable >= at {
			all = append(all, c)
		}
	}
	return all
}

// image makes the files of a state. durable holds what was durable before.
func (r *recording) image(s crashState, durable *image, rnd *rand.Rand) (m *image, choices map[any]choice) {
	m = durable.clone()
	pending := r.pending(s.at)
	count := map[any]int{}
	for _, c := range pending {
		count[c.owner()]++
	}
	choices, seen := map[any]choice{s.owner: s.choice}, map[any]int{}
	for _, c := range pending {
		if _, ok := choices[c.owner()]; !ok {
			choices[c.owner()] = lot(count[c.owner()], rnd)
		}
		whole, torn := choices[c.owner()].takes(seen[c.owner()])
		seen[c.owner()]++
		if whole {
			m.apply(c)
		} else if torn && c.kind == written {
			for _, part := range tear(c, rnd) {
				m.apply(part)
			}
		}
	}
	return m, choices
}

// lot draws a choice, often none or all.
func lot(n int, rnd *rand.Rand) choice {
	all := choices(n)
	if rnd.IntN(2) == 0 {
		return all[rnd.IntN(2)]
	}
	return all[rnd.IntN(len(all))]
}

const sector = 512 // what a drive writes whole or not at all

// tear returns some of the sectors of a write.
func tear(c *change, rnd *rand.Rand) (parts []*change) {
	sectors := rnd.Uint64()
	if rnd.IntN(2) == 0 { // only the beginning
		sectors = 1<<rnd.IntN(8) - 1
	}
	for from := int64(0); from < int64(len(c.data)); {
		at := c.at + from
		n := min(sector-at%sector, int64(len(c.data))-from)
		if sectors>>(at%pageBytes/sector)&1 == 1 {
			part := *c
			part.at, part.data = at, c.data[from:from+n]
			parts = append(parts, &part)
		}
		from += n
	}
	return parts
}

// commandEvery: of so many states one is also given to the command itself.
const commandEvery = 100

// try rebuilds the states, which are in the order of their moments, and opens each.
func (r *recording) try(ctx context.Context, e Env, all []crashState, o *opener, rnd *rand.Rand, name string, t *Tally) error {
	durable, done := newImage(), make([]bool, len(r.changes))
	acked := map[string]bool{}
	acks, forwarded := r.acks, r.forwarded
	last := uint64(0)
	for _, s := range all {
		if !e.More(t) || ctx.Err() != nil {
			return ctx.Err()
		}
		for i := range r.changes {
			if c := &r.changes[i]; !done[i] && c.durable < s.at {
				durable.apply(c)
				done[i] = true
			}
		}
		for len(acks) > 0 && acks[0].at < s.at {
			acked[acks[0].payload], acks = true, acks[1:]
		}
		for len(forwarded) > 0 && forwarded[0].at < s.at {
			last, forwarded = max(last, forwarded[0].seq), forwarded[1:]
		}
		m, choices := r.image(s, durable, rnd)
		trial := fmt.Sprintf("%s, seed %d, line %d, %s", name, e.Seed, s.at, r.describe(choices))
		if err := o.state(ctx, m, trial, acked, last, t); err != nil {
			return fmt.Errorf("%s: %w", trial, err)
		}
		if t.Trials%commandEvery == 0 {
			if err := o.command(ctx, e.Bin, m, trial, t); err != nil {
				return fmt.Errorf("%s: %w", trial, err)
			}
		}
		t.Trials++
	}
	return nil
}

// describe says what had reached the drive.
func (r *recording) describe(choices map[any]choice) string {
	var parts []string
	for owner, c := range choices {
		name := fmt.Sprint(owner)
		for i := range r.changes {
			if r.changes[i].kind == named && r.changes[i].file == owner {
				name = r.changes[i].name
			}
		}
		parts = append(parts, fmt.Sprintf("%s: %v", name, c))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// AfterCrash is the payload of the record that reopen adds.
const AfterCrash = "after the crash"

// Reopened is what command reopen tells of a state.
type Reopened struct {
	Problems    []string
	First, Last uint64   // records of the log before the restart
	Cursor      uint64   // of the archive before it
	Payloads    []string // rows of the archive after it, in their order
}

// opener is the process that opens states.
type opener struct {
	bin, dir string
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Reader
	says     *strings.Builder
}

// startOpener builds it. The states are made in memory if there is a file
// system for that: their syncs cost nothing there.
func startOpener(ctx context.Context, dir string) (*opener, error) {
	o := &opener{bin: filepath.Join(dir, "reopen")}
	build := exec.CommandContext(ctx, "go", "build", "-o", o.bin, "github.com/mqttetl/mqttetl/test/prove/reopen")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build reopen: %w\n%s", err, out)
	}
	var err error
	if o.dir, err = os.MkdirTemp("/dev/shm", "mqttetl-states-"); err != nil {
		o.dir, err = os.MkdirTemp(dir, "states-")
	}
	return o, err
}

func (o *opener) close() {
	o.end()
	os.RemoveAll(o.dir)
}

func (o *opener) end() {
	if o.cmd != nil {
		o.in.Close()
		o.cmd.Wait()
		o.cmd = nil
	}
}

func (o *opener) start(ctx context.Context) (err error) {
	o.cmd, o.says = exec.CommandContext(ctx, o.bin), &strings.Builder{}
	o.cmd.Stderr = o.says
	if o.in, err = o.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	o.out = bufio.NewReader(out)
	return o.cmd.Start()
}

// state has one state opened and notes in t what is wrong with it.
func (o *opener) state(ctx context.Context, m *image, trial string, acked map[string]bool, forwarded uint64, t *Tally) error {
	dir := filepath.Join(o.dir, "state")
	defer os.RemoveAll(dir)
	if err := m.write(dir); err != nil {
		return err
	}
	found, err := o.ask(ctx, dir)
	if err != nil {
		return err
	}
	for _, p := range found.Problems {
		t.Violate("%s: %s", trial, p)
	}
	if forwarded > found.Last {
		t.Violate("%s: record %d is in the stream, the log ends at %d", trial, forwarded, found.Last)
	}
	there := make(map[string]bool, len(found.Payloads))
	for _, p := range found.Payloads {
		there[p] = true
	}
	lost := 0
	for p := range acked {
		if !there[p] {
			lost++
		}
	}
	if lost > 0 {
		t.Lost += lost
		t.Violate("%s: %d of %d acknowledged messages lost", trial, lost, len(acked))
	}
	return nil
}

// command has mqttetl verify look at a state that holds a log.
func (o *opener) command(ctx context.Context, bin string, m *image, trial string, t *Tally) error {
	if _, ok := m.names["log/data.mdb"]; !ok {
		return nil
	}
	dir := filepath.Join(o.dir, "command")
	defer os.RemoveAll(dir)
	if err := m.write(dir); err != nil {
		return err
	}
	s, err := service.New(bin, dir, service.Settings{Broker: "mqtt://127.0.0.1:1", QoS: 1})
	if err != nil {
		return err
	}
	if err := s.Verify(ctx); err != nil && ctx.Err() == nil {
		t.Violate("%s: %v", trial, err)
	}
	return ctx.Err()
}

// ask hands a directory to the process. Its death is a problem of that state.
func (o *opener) ask(ctx context.Context, dir string) (found Reopened, err error) {
	if o.cmd == nil {
		if err := o.start(ctx); err != nil {
			return found, err
		}
	}
	if _, err := fmt.Fprintln(o.in, dir); err == nil {
		var line []byte
		if line, err = o.out.ReadBytes('\n'); err == nil {
			return found, json.Unmarshal(line, &found)
		}
	}
	err = o.cmd.Wait()
	o.cmd = nil
	if ctx.Err() != nil {
		return found, ctx.Err()
	}
	found.Problems = []string{fmt.Sprintf("the process that opened it died: %v: %.300s", err, o.says)}
	return found, nil
}
