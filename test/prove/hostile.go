package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/service"
)

const (
	hostileRate   = 300       // messages a second of the publisher that sends meanwhile
	hostileMemory = 512 << 20 // bytes that the service may have at its peak, with the defaults
	// hostileHold is how long archive and NATS may stand still with records waiting.
	hostileHold = 15 * time.Second
	// hostileShare: so many trials in a row make every attack at least once. Within
	// go test there are fewer, and the seed chooses.
	hostileShare = 3
)

// An attack is one way in which a stranger may try to end the service, to grow
// it or to hold it up. To add one, write a file hostile_<area>.go with a
// function that returns the attack, and enter it in attacks below:
//
//	var pubrelFlood = attack{
//		name: "PUBREL without end",
//		prepare: func(h *hostile) error { // before the service starts; nil if there is nothing to do
//			return h.lyingBroker("flood", func(ctx context.Context, p *peer) error {
//				if err := p.greet(); err != nil { // CONNACK, SUBACK
//					return err
//				}
//				…
//			})
//		},
//		run: func(ctx context.Context, h *hostile) error { … }, // once it is ready; nil: the broker's part is all
//	}
//
// prepare may add sources (lyingBroker), keys (h.settings) and what else there is in
// setup. run has the world: h.broker (a real Mosquitto), h.nats (a real server),
// h.rnd; it returns when the attack has had its effect, for which
// h.holds(ctx, topic, payload) waits. What an attack publishes into the stream itself has the
// subject strange. An error says that the attack could not be made; what it
// finds it notes with h.violate. Everything else is checked by the frame: the
// process lives, its memory, that both stores go on, and that log, archive and
// stream hold the same. Further attacks run beside it in the same trial.
type attack struct {
	name    string
	prepare func(h *hostile) error
	run     func(ctx context.Context, h *hostile) error
}

// attacks are all attacks.
var attacks = []attack{
	forgedIDs,
	controlBytes,
	largeProperties,
	jqBombs,
	releaseFlood,
	tooLarge,
	endlessHandshake,
	textFrame,
	lyingNATS,
	decodeBombs,
	birthFlood,
}

func hostileCampaign() *Campaign {
	names := make([]string, len(attacks))
	for i, a := range attacks {
		names[i] = a.name
	}
	return &Campaign{
		Name: "hostile",
		Injects: fmt.Sprintf("what strangers may send, a third of it at once: %s. The process must live, keep below %d MiB with the workers of jq, and archive and NATS must not stand still for %v",
			strings.Join(names, "; "), hostileMemory>>20, hostileHold),
		Short: 2, Long: 60,
		Run: func(ctx context.Context, e Env) (Tally, error) { return eachTrial(ctx, e, hostileTrial) },
		Controls: []Control{
			{Name: "control bytes are in NATS subjects as they are", Replace: map[string][2]string{"internal/natsmsg/subject.go": {
				`dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])`, "dst = append(dst, c)",
			}}, Setting: only(controlBytes.name), Trials: 2},
			{Name: "600 MiB of memory", Replace: map[string][2]string{"batch.go": {
				"type Batch struct {", "var full = make([]byte, 600<<20)\n\nfunc init() {\n\tfor i := range full {\n\t\tfull[i] = 1\n\t}\n}\n\ntype Batch struct {",
			}}, Setting: only(controlBytes.name), Trials: 2},
			{Name: "a worker of jq may have 1 GiB more", Replace: map[string][2]string{"batch/transform/work.go": {
				"{Cur: limit, Max: limit}", "{Cur: limit + 1<<30, Max: limit + 1<<30}",
			}}, Setting: only(jqBombs.name), Trials: 2},
			{Name: "a compressed payload may become 1 GiB", Replace: map[string][2]string{"batch/decode/inflate.go": {
				"MaxInflated = DefaultMaxBytes", "MaxInflated = 1 << 30",
			}}, Setting: only(decodeBombs.name), Trials: 8},
			{Name: "births have no bound in memory", Replace: map[string][2]string{"batch/transform/births.go": {
				"knownBytes = 32 << 20", "knownBytes = 32 << 30",
			}}, Setting: only(birthFlood.name), Trials: 2},
			{Name: "what is owed to a broker has no bound", Replace: map[string][2]string{"ingest/session/acks.go": {
				"const mostOwed = 1 << 20", "const mostOwed = 1 << 40",
			}}, Setting: only(releaseFlood.name), Trials: 2},
			{Name: "sizes that a NATS server claims are believed", Replace: map[string][2]string{"internal/dial/guard.go": {
				"case total > g.most:", "case false:\n\tcase true:\n\t\tg.rest = total + 2\n\t\treturn nil\n\tcase total > g.most:",
			}}, Setting: only(lyingNATS.name), Trials: 6},
			{Name: "any tag in the stream proves a position", Replace: map[string][2]string{"internal/natsmsg/tag.go": {
				"p.Tag == string(t.Append(nil, seq, at, p.Late))", "len(t.Append(nil, seq, at, p.Late)) > 0",
			}}, Setting: only(forgedIDs.name), Trials: 4},
		},
	}
}

// hostile is the world of a trial.
type hostile struct {
	*world        // nil in prepare
	setup  *setup // for prepare
	rnd    *rand.Rand
	trial  string

	begun chan struct{} // closed when the publisher is under way: until then no peer answers
	mu    sync.Mutex
	t     *Tally
	peers []func() // end them
	liar  *natsLiar

	flooded atomic.Int64 // bytes that releaseFlood has written
	most    int          // bytes that all its processes had together
}

// violate notes something that must not be.
func (h *hostile) violate(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.t.Violate(h.trial+": "+format, args...)
}

// chosen are the attacks of a trial: every third, and some more, so that the
// combinations differ.
func chosen(e Env, i int, rnd *rand.Rand) (list []attack) {
	for k, a := range attacks {
		third := (uint64(k)+e.Seed+uint64(i))%hostileShare == 0
		if e.Only == a.name || e.Only == "" && (rnd.IntN(6) == 0 || third) {
			list = append(list, a)
		}
	}
	return list
}

// hostileTrial makes some attacks while a publisher sends, and counts.
func hostileTrial(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) error {
	list := chosen(e, t.Trials, rnd)
	h := &hostile{rnd: rnd, t: t, setup: &setup{dir: dir}, begun: make(chan struct{})}
	h.trial = fmt.Sprintf("trial %d (seed %d)", t.Trials, e.Seed+uint64(t.Trials))
	defer func() { h.endPeers(); h.liar.close() }() // the liar is honest in the end, and needed
	for _, a := range list {
		h.trial += ", " + a.name
		if a.prepare == nil {
			continue
		}
		if err := a.prepare(h); err != nil {
			return fmt.Errorf("prepare %s: %w", a.name, err)
		}
	}
	w, err := newWorld(e.Bin, *h.setup)
	if err != nil {
		return err
	}
	defer w.close()
	h.world, w.pub.Rate = w, hostileRate
	stop, err := h.underAttack(ctx, list)
	defer stop()
	if err != nil {
		return err
	}
	if err := w.more(ctx, hostileRate); err != nil && !w.Ended() { // it goes on after the attacks
		return err
	}
	h.goesOn(ctx)
	stop()
	h.endPeers()
	h.checkProcess()
	if w.Ended() || e.Control != "" && t.Failed() {
		return nil
	}
	return h.account(ctx, t, h.trial)
}

// underAttack starts service and publisher, and makes the attacks at once.
func (h *hostile) underAttack(ctx context.Context, list []attack) (stop func(), err error) {
	if err := h.world.Start(); err != nil {
		return func() {}, err
	}
	if err := h.subscribed(ctx); err != nil {
		return func() {}, fmt.Errorf("%w; it wrote: %s", err, tail(h.Output(), 1500))
	}
	publish := h.publish(ctx)
	close(h.begun)
	watching, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { defer close(watched); h.watch(watching) }()
	stop = sync.OnceFunc(func() { publish(); cancel(); <-watched })
	errs := make([]error, len(list))
	var running sync.WaitGroup
	for i, a := range list {
		if a.run != nil {
			running.Go(func() {
				if err := a.run(ctx, h); err != nil && !h.Ended() {
					errs[i] = fmt.Errorf("%s: %w; it wrote: %s", a.name, err, tail(h.Output(), 1500))
				}
			})
		}
	}
	running.Wait()
	return stop, errors.Join(errs...)
}

// subscribed waits until messages of the real broker pass: a source of a lying
// one may never be.
func (h *hostile) subscribed(ctx context.Context) error {
	for {
		first := &e2e.Publisher{Broker: h.broker.URL, Run: fmt.Sprintf("first-%d", time.Now().UnixNano()), QoS: 1, Workers: 1}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := first.Publish(short, 1)
		for payload, topic := range first.Acknowledged() {
			err = h.holds(short, topic, payload)
		}
		cancel()
		if err == nil || ctx.Err() != nil || h.Ended() {
			return err
		}
	}
}

// goesOn waits until both stores have moved past what the log holds now, or for
// longer than they may stand still, which watch notes.
func (h *hostile) goesOn(ctx context.Context) {
	now, err := h.Status(ctx)
	if err != nil {
		return // as watch or checkProcess say
	}
	ctx, cancel := context.WithTimeout(ctx, hostileHold+2*time.Second)
	defer cancel()
	h.Await(ctx, "both go on", func(s service.Status) bool {
		return s.Archive.Cursor >= now.Log.Last && s.NATS.Cursor >= now.Log.Last
	})
}

// watch notes how long either store stands still while records wait for it.
func (h *hostile) watch(ctx context.Context) {
	type position struct {
		cursor uint64
		since  time.Time
		told   bool
	}
	positions := map[string]*position{"archive": {since: time.Now()}, "NATS": {since: time.Now()}}
	silent := time.Now()
	for ctx.Err() == nil {
		backoff.Pause(ctx, 100*time.Millisecond)
		h.most = max(h.most, memoryOfAll(h.Pid()))
		asked, cancel := context.WithTimeout(ctx, hostileHold)
		s, err := h.Status(asked)
		cancel()
		if err != nil {
			if ctx.Err() == nil && !h.Ended() && time.Since(silent) > hostileHold {
				h.violate("no answer to /status for %v: %v", hostileHold, err)
				return
			}
			continue
		}
		silent = time.Now()
		for name, at := range map[string]*service.Position{"archive": s.Archive, "NATS": s.NATS} {
			p := positions[name]
			if at == nil || at.Lag == 0 || at.Cursor != p.cursor {
				p.since = time.Now()
			}
			if at != nil {
				p.cursor = at.Cursor
			}
			if time.Since(p.since) > hostileHold && !p.told {
				p.told = true
				h.violate("%s stands still after record %d for %v; it wrote: %s", name, p.cursor, hostileHold, tail(h.Output(), 1000))
			}
		}
	}
}

// checkProcess notes a process that has ended or grown.
func (h *hostile) checkProcess() {
	if h.Ended() {
		h.violate("the process has ended; it wrote: %s", tail(h.Output(), 3000))
		return
	}
	peak := memoryOf(h.Pid(), "VmHWM:")
	if most := max(peak, h.most); most > hostileMemory {
		h.violate("%d MiB of memory at the peak, the service alone %d, the limit is %d", most>>20, peak>>20, hostileMemory>>20)
	}
}

// memoryOfAll is the memory, now, of a process and of the processes that it has started.
func memoryOfAll(pid int) (bytes int) {
	bytes = memoryOf(pid, "VmRSS:")
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				bytes += memoryOfAll(n)
			}
		}
	}
	return bytes
}

// holds waits until the archive holds a message.
func (h *hostile) holds(ctx context.Context, topic, payload string) error {
	_, err := h.Await(ctx, "archived", func(service.Status) bool {
		there, err := e2e.Holds(h.Archive(), topic, payload)
		return err == nil && there
	})
	return err
}

// account compares as world.account does, without what the attacks have
// published to the stream themselves and without what the stream cannot hold.
func (h *hostile) account(ctx context.Context, t *Tally, trial string) error {
	rows, err := h.settled(ctx, t, trial)
	if err != nil {
		return err
	}
	all, err := e2e.ReadStream(ctx, h.nats.URL(), "E2E")
	if err != nil {
		return err
	}
	var stream []e2e.Streamed
	for _, m := range all {
		if m.Subject != strange {
			stream = append(stream, m)
		}
	}
	dead, err := e2e.DeadLetters(h.Archive(), "forward")
	if err != nil {
		return err
	}
	var sent []e2e.Archived
	for _, r := range rows {
		if !dead[r.Seq] {
			sent = append(sent, r)
		}
	}
	if err := e2e.CheckSame(sent, stream); err != nil {
		t.Violate("%s: stream: %v", trial, err)
	}
	h.count(t, trial, rows, stream, false)
	return nil
}
