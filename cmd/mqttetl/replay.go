package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/replay"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/sink/history"
)

// replayFlags say what is played where, and how.
type replayFlags struct {
	selectionFlags
	destinationFlags
	speed       string
	rate        float64
	maxGap      time.Duration
	loop        bool
	topicPrefix string
	topicMaps   []string
	resume      string
	skipRefused bool
	quiet       bool
}

func newReplay(std streams) *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay --to URL",
		Short: "Play recorded messages back to NATS, MQTT or standard output",
		Long: `Replay sends the records of the archive, and those of the log that are not
archived yet, in the order in which they were received: as recorded, faster, or
as fast as the destination takes them. It reads while the service runs, and plays
what is there when it begins.

  --to nats://host:4222 --stream NAME   JetStream, each record confirmed and stored once
  --to nats://host:4222                 core NATS, to whoever listens; refused where a
                                        stream takes the subjects: see --subject-prefix
  --to mqtt://host:1883                 MQTT, confirmed by PUBACK; mqtts:// with TLS,
                                        ws:// and wss:// through WebSocket
  --to -                                NDJSON on standard output

A silence of the recording lasts as long as it did: --max-gap shortens it.

With --resume FILE a replay that was interrupted or killed continues after what was
confirmed. JetStream gets nothing twice. MQTT may get again what was in flight
(docs/replay.md).

On a terminal, space pauses and continues, and q quits.

Exit codes: 0 played, 1 records were refused, 2 flags, or a --resume file of other
flags or of something else, 65 damaged or foreign stores, or a stream that already
holds records of this log, 69 a stream takes what core NATS should get, or the
destination cannot be reached, went away or refused a record, 74 an archive or a
file that a flag names cannot be read, 77 the destination refuses the login.`,
		Example: `  mqttetl replay --to mqtt://127.0.0.1:1884 --since yesterday --speed 10
  mqttetl replay --to nats://127.0.0.1:4222 --stream AGAIN --subject-prefix again --speed max --resume again.pos
  mqttetl replay --to nats://127.0.0.1:4222 --subject-prefix test --topic 'factory/#' --topic-map 'factory/(.*)=line/$1'
  mqttetl replay --to - --max-gap 1s --seq 100..200`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pace, rewrite, err := f.check()
			if err != nil {
				return usageError{err, cmd}
			}
			h, sel, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer h.Close()
			if f.archive == "" {
				cfg, err := loadStores(f.config)
				if err != nil {
					return err
				}
				f.warnOwn(std.err, cfg)
			}
			defer collectSeldom()()
			r := &replayRun{std: std, flags: &f, history: h, sel: sel, cfg: replay.Config{
				Pace: pace, Rewrite: rewrite, Loop: f.loop, SkipRefused: f.skipRefused,
			}}
			return resumeError(r.run(cmd.Context()), cmd, f.resume)
		},
	}
	f.selectionFlags.add(cmd)
	f.destinationFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.speed, "speed", "1", "times as fast as recorded: 1, 10, 0.5, …, or max")
	flags.Float64Var(&f.rate, "rate", 0, "records a second, evenly, whatever was recorded; 0: none")
	flags.DurationVar(&f.maxGap, "max-gap", 0, "shorten recorded silences to this; 0: leave them")
	flags.BoolVar(&f.loop, "loop", false, "begin again at the end, until interrupted, at the same pace: after the mean distance of records, or 1s where there is none")
	flags.StringVar(&f.topicPrefix, "topic-prefix", "", "put before every topic")
	flags.StringArrayVar(&f.topicMaps, "topic-map", nil, "rename whole topics, 'a/(.*)=b/$1'; may be repeated, the first that matches")
	flags.StringVar(&f.resume, "resume", "", "file that keeps the position; made if absent")
	flags.BoolVar(&f.skipRefused, "skip-refused", false, "continue after a record that the destination will never take")
	flags.BoolVar(&f.quiet, "no-progress", false, "no progress on a terminal, and no keys")
	return cmd
}

// collectSeldom lets garbage grow to four times what lives, unless GOGC says
// otherwise, until again is called. Little lives in a replay, and what was sent
// is garbage: this takes some 35 MiB and spares a quarter of the processor time.
func collectSeldom() (again func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(400)
	return func() { debug.SetGCPercent(before) }
}

// check returns pace and rewriting, or what is wrong with the flags.
func (f *replayFlags) check() (pace replay.Pace, rewrite replay.Rewrite, err error) {
	errs := []error{f.destinationFlags.check()}
	pace = replay.Pace{Rate: f.rate, MaxGap: f.maxGap}
	if f.speed != "max" {
		pace.Speed, err = strconv.ParseFloat(f.speed, 64)
		if err != nil || !(pace.Speed > 0) || pace.Speed > 1e9 {
			errs = append(errs, fmt.Errorf("--speed %s: must be a number above 0 and up to 1e9, or max", f.speed))
		}
	}
	if f.rate > 0 && f.given != nil && (f.given("speed") || f.given("max-gap")) {
		errs = append(errs, errors.New("--rate is a pace of its own: --speed and --max-gap mean nothing with it"))
	}
	if !(f.rate >= 0) || math.IsInf(f.rate, 1) || f.maxGap < 0 {
		errs = append(errs, errors.New("--rate and --max-gap: must be a number, and not negative"))
	}
	if f.loop && f.stream != "" {
		errs = append(errs, errors.New("--loop: a stream takes each id once; play it again without --loop but with --new-ids, which gives each run its own"))
	}
	if f.loop && f.limit > 0 && f.resume != "" {
		errs = append(errs, errors.New("--loop with --limit has no position to resume at: leave out --resume, or choose with --seq or --until"))
	}
	rewrite.Prefix = f.topicPrefix
	errs = append(errs, named("topic-prefix", replay.CheckTopic(f.topicPrefix)))
	for _, s := range f.topicMaps {
		m, err := replay.ParseMap(s)
		errs = append(errs, named("topic-map", err))
		rewrite.Maps = append(rewrite.Maps, m)
	}
	return pace, rewrite, errors.Join(errs...)
}

// replayRun is one replay from the first look at its resume file to its account.
type replayRun struct {
	std     streams
	flags   *replayFlags
	history *history.History
	sel     mqttetl.Selection
	cfg     replay.Config
	plan    replay.Plan
	player  *replay.Player

	found     mqttetl.Seq // what the destination had
	bounds    bounds
	first     atomic.Pointer[point] // of the pass that is read
	countdown countdown
}

func (r *replayRun) run(ctx context.Context) error {
	r.plan = replay.Plan{Settings: r.flags.settings(), LogID: r.history.LogID(), IDs: r.history.LogID(), Selection: r.sel}
	if r.flags.stream != "" {
		r.plan.Key = make([]byte, natsmsg.KeySize)
		rand.Read(r.plan.Key)
	}
	if r.flags.newIDs {
		var id [8]byte
		rand.Read(id[:])
		r.plan.IDs = hex.EncodeToString(id[:])
	}
	if _, last := r.history.Select(r.sel).Bounds(); r.sel.To == 0 {
		r.plan.Selection.To = max(1, last)
	}
	resumed := false
	if r.flags.resume != "" {
		var err error
		if resumed, err = replay.CheckResume(r.flags.resume); err != nil {
			return err
		}
	}
	if resumed {
		if err := r.openResume(); err != nil {
			return err
		}
		defer r.cfg.Resume.Close()
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.cfg.Open = func(after mqttetl.Seq, played uint64) replay.Source {
		return &beginning{Source: r.source(after, played), found: r.found, note: &r.first}
	}
	r.cfg.Silent = r.silence
	confirmed := func(upTo mqttetl.Seq, n int) { r.player.Confirmed(upTo, n) }
	refused := func(x *replay.RefusedError) error { return r.player.Refused(x) }
	if resumed {
		r.player = replay.NewPlayer(r.cfg)
	}
	if err := r.flags.checkTaken(ctx); err != nil {
		return err
	}
	var after mqttetl.Seq
	if resumed {
		after = r.cfg.Resume.Position().Seq
	}
	to, found, err := r.flags.openDestination(ctx, r.std, &r.plan, after, !resumed, confirmed, refused, stop)
	if err != nil {
		return err
	}
	defer to.Close()
	if found > 0 && !resumed {
		if err := r.checkStream(ctx, found); err != nil {
			return err
		}
	}
	if r.flags.resume != "" && !resumed {
		if err := r.openResume(); err != nil {
			return err
		}
		defer r.cfg.Resume.Close()
	}
	if r.player == nil {
		r.player = replay.NewPlayer(r.cfg)
	}
	if resumed {
		r.player.Found(found)
		r.found = found
	}
	return r.play(ctx, to, stop)
}

func (r *replayRun) openResume() (err error) {
	if r.cfg.Resume, err = replay.OpenResume(r.flags.resume, r.plan); err == nil {
		r.plan = r.cfg.Resume.Plan
	}
	return err
}

// checkStream refuses to play what a stream may hold already: the ids say how
// far it has come, not what was left out.
func (r *replayRun) checkStream(ctx context.Context, found mqttetl.Seq) error {
	recs, err := r.source(0, 0).Next(ctx)
	if err != nil || len(recs) == 0 || recs[0].Seq > found {
		return nil // an error of reading is seen again
	}
	return codedError{mqttetl.WithHint(fmt.Errorf("stream %s holds records of this log up to %d already, the replay would begin at %d",
		r.flags.stream, found, recs[0].Seq), fmt.Sprintf("--new-ids plays them again, --seq %d.. continues after them, --resume FILE continues the replay that brought them", found+1)), exitDamaged}
}

// source reads the selection of the plan after a record.
func (r *replayRun) source(after mqttetl.Seq, played uint64) replay.Source {
	sel := r.plan.Selection
	sel.From = max(sel.From, after+1)
	if sel.Limit > 0 {
		if played >= sel.Limit {
			sel.From, sel.To = 2, 1
		}
		sel.Limit -= min(sel.Limit-1, played)
	}
	return r.history.Select(sel).Reuse(replay.Ahead)
}

// silence says why nothing will happen for long.
func (r *replayRun) silence(lasts time.Duration, next int64) {
	if r.cfg.Pace.Rate > 0 {
		return // which is no silence of the recording
	}
	if isTerminal(r.std.err) {
		fmt.Fprint(r.std.err, "\r\x1b[K")
	}
	fmt.Fprintf(r.std.err, "mqttetl: the next record, of %s, follows in %v; --max-gap 10s shortens such silences\n",
		time.Unix(0, next).UTC().Format(time.RFC3339), lasts.Round(time.Second))
}

// errQuit is how the replay ends when somebody presses q.
var errQuit = errors.New("quit")

// play plays to the end and prints the account.
func (r *replayRun) play(ctx context.Context, to replay.Destination, stop context.CancelCauseFunc) (err error) {
	line := newProgressLine(r.std.err, r.flags.quiet || r.flags.to == "-" && isTerminal(r.std.out))
	if line.on {
		if r.bounds, err = boundsOf(ctx, r.history, r.plan.Selection, r.cfg.Pace); err != nil {
			return err
		}
	}
	keys := readKeys(r.std.in, line.on, func(key byte) {
		switch key {
		case ' ':
			r.player.Toggle()
		case 'q', 'Q':
			stop(errQuit)
		}
	})
	hide := line.every(r.text)
	began := time.Now()
	err = r.player.Run(ctx, to)
	took := time.Since(began)
	hide()
	keys.restore()
	a := r.player.Account()
	fmt.Fprintln(r.std.err, accountLine(a, took))
	switch {
	case errors.Is(err, errQuit):
		return nil
	case err != nil:
		return r.because(err)
	case a.Refused > 0:
		return fmt.Errorf("%d records were refused, the first: %w", a.Refused, a.Refusal)
	}
	return nil
}

// because adds where the replay can be taken up again.
func (r *replayRun) because(err error) error {
	var refusal *replay.RefusedError
	if errors.As(err, &refusal) {
		err = mqttetl.WithHint(fmt.Errorf("%w: %w", mqttetl.ErrUnavailable, err), "--skip-refused continues after it")
	}
	at, hint := r.player.Position().Seq, mqttetl.Hint(err)
	if r.flags.resume == "" || hint != "" && at == 0 {
		return err
	}
	if hint != "" {
		hint += "; "
	}
	return mqttetl.WithHint(err, hint+"the position is kept: the same command continues after record "+strconv.FormatUint(uint64(at), 10))
}

// accountLine is the account in one line. The equations hold at the end.
func accountLine(a replay.Account, took time.Duration) string {
	if a.Selected == 0 && a.Before == 0 {
		return noRecords
	}
	var b strings.Builder
	fmt.Fprintf(&b, "selected %d = ", a.Selected)
	if a.Already > 0 {
		fmt.Fprintf(&b, "there already %d + ", a.Already)
	}
	if a.Refused > 0 {
		fmt.Fprintf(&b, "refused %d + ", a.Refused)
	}
	fmt.Fprintf(&b, "sent %d, confirmed %d", a.Sent, a.Confirmed)
	if a.Before > 0 {
		fmt.Fprintf(&b, ", before this run %d", a.Before)
	}
	fmt.Fprintf(&b, ", in %v (%.0f/s)", took.Round(time.Millisecond), rate(a.Confirmed, took))
	return b.String()
}
