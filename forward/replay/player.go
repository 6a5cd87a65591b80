package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mqttetl/mqttetl"
)

// Config says how to play.
type Config struct {
	Pace    Pace
	Rewrite Rewrite
	// Loop plays the selection again and again, until the context ends.
	Loop bool
	// SkipRefused goes on behind a record that the destination will never take,
	// and counts it; otherwise the replay ends there.
	SkipRefused bool
	// Resume records the position; nil for none.
	Resume *Resume
	// Open begins to read the selection behind a record, of which so many
	// records have been played before in this pass. It is called once a pass.
	Open func(after mqttetl.Seq, played uint64) Source
	// Silent is told once of each silence, before it, that will last longer than a
	// minute, and of the recorded time of the record after it; nil for nobody.
	Silent func(lasts time.Duration, next int64)
}

// longSilence is what somebody who watches takes for a replay that hangs.
const longSilence = time.Minute

// Account is what a replay has done in this run of the program. When it has
// come to its end, Selected = Already + Sent + Refused and Sent = Confirmed.
type Account struct {
	Before    uint64 // settled before in this pass, according to the resume file
	Selected  uint64 // records read that were meant
	Already   uint64 // of them, those that the destination had
	Sent      uint64
	Confirmed uint64
	Refused   uint64
	Refusal   *RefusedError // the first
	At        mqttetl.Seq   // the record sent last
	Time      int64         // its recorded time, Unix nanoseconds
	Passes    uint64
}

// Player plays a selection to a Destination.
type Player struct {
	cfg  Config
	beat *beat

	mu       sync.Mutex
	account  Account
	taken    uint64 // of those that were sent, refused afterwards
	position Position
	found    mqttetl.Seq   // what the destination had when the replay began
	moved    chan struct{} // holds one token after the position has moved
}

// NewPlayer makes a Player. Its Confirmed is to be given to the Destination
// before Run.
func NewPlayer(cfg Config) *Player {
	p := &Player{cfg: cfg, beat: newBeat(), moved: make(chan struct{}, 1)}
	if cfg.Resume != nil {
		p.position = cfg.Resume.Position()
		p.account.Before = p.position.Played
	}
	return p
}

// Account is what has been done so far. While the replay runs, Selected and Sent
// may be countEvery records behind.
func (p *Player) Account() Account {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.account
	a.Sent -= min(a.Sent, p.taken) // what was refused may not be counted as sent yet
	return a
}

// Toggle pauses the replay or lets it go on, and says whether it is paused.
func (p *Player) Toggle() bool { return p.beat.toggle() }

// Elapsed is how long records have been played, pauses not counted, and whether
// the replay is paused now.
func (p *Player) Elapsed() (d time.Duration, paused bool) { return p.beat.elapsed() }

// Position is where the replay stands: all up to it is confirmed.
func (p *Player) Position() Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.position
}

// Confirmed is the Confirm of the destination.
func (p *Player) Confirmed(upTo mqttetl.Seq, n int) {
	p.mu.Lock()
	p.account.Confirmed += uint64(n)
	p.settle(upTo, uint64(n))
	p.mu.Unlock()
	p.wake()
}

// settle moves the position; p.mu is held.
func (p *Player) settle(upTo mqttetl.Seq, n uint64) {
	p.position.Seq = max(p.position.Seq, upTo)
	p.position.Played += n
}

// Found says that the destination holds everything up to upTo already, be it
// more than the resume file knows. It is called before Run.
func (p *Player) Found(upTo mqttetl.Seq) { p.found = upTo }

func (p *Player) wake() {
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// Refused is told by a destination, behind Send, of a record that it will never
// take. The error is nil if the replay goes on behind it.
func (p *Player) Refused(r *RefusedError) error {
	err := p.refuse(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken++
	return err
}

func (p *Player) refuse(r *RefusedError) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account.Refused++
	if p.account.Refusal == nil {
		p.account.Refusal = r
	}
	if !p.cfg.SkipRefused {
		return r
	}
	p.settle(0, 1)
	return nil
}

// Run plays until the end, the first error, or the end of ctx, whose cause it
// returns then. The position that is recorded last is that of the last
// confirmation. It does not close the destination.
func (p *Player) Run(ctx context.Context, to Destination) error {
	if p.position.Done {
		return nil
	}
	if p.cfg.Resume == nil {
		return p.play(ctx, to)
	}
	var actors errgroup.Group
	ctx, stop := context.WithCancelCause(ctx)
	played := make(chan struct{})
	actors.Go(func() error {
		err := p.record(played)
		if err != nil {
			stop(err)
		}
		return err
	})
	err := p.play(ctx, to)
	close(played)
	return errors.Join(err, actors.Wait())
}

// record keeps the resume file up with the position until played is closed.
func (p *Player) record(played <-chan struct{}) error {
	file := p.cfg.Resume
	for end := false; !end; {
		var due <-chan time.Time
		if file.unsynced {
			due = time.After(file.due())
		}
		select {
		case <-p.moved:
		case <-due: // and nothing has moved since
			if err := file.Sync(); err != nil {
				return err
			}
		case <-played:
			end = true
		}
		if err := file.Record(p.Position()); err != nil {
			return err
		}
	}
	return nil
}

// play plays one pass after the other.
func (p *Player) play(ctx context.Context, to Destination) error {
	s := score{pace: p.cfg.Pace}
	for {
		at, before := p.Position(), p.Account().Selected
		err := p.pass(ctx, to, p.cfg.Open(at.Seq, at.Played), &s)
		if err == nil {
			err = to.Drain(ctx)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if a := p.Account(); a.Sent != a.Confirmed { // which Drain has promised
			return fmt.Errorf("%w: %d records were sent, %d are confirmed", mqttetl.ErrUnavailable, a.Sent, a.Confirmed)
		}
		p.mu.Lock()
		p.account.Passes++
		if p.cfg.Loop {
			p.position = Position{Pass: p.position.Pass + 1}
		} else {
			p.position.Done = true
		}
		idle := p.account.Selected == before && at.Played == 0 // and would be for ever
		p.mu.Unlock()
		p.wake()
		if !p.cfg.Loop || idle {
			return nil
		}
	}
}

// pass plays a selection once.
func (p *Player) pass(ctx context.Context, to Destination, from Source, s *score) error {
	chunks, stop := readAhead(ctx, from)
	defer stop()
	s.again()
	for c := range chunks {
		if s.n == 0 {
			p.beat.restart() // not before the first record is there
		}
		if errors.Is(c.err, io.EOF) {
			return nil
		}
		if c.err != nil {
			return fmt.Errorf("read what was recorded: %w", c.err)
		}
		if err := p.some(ctx, to, c.recs, s); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// chunk is what one call of Next has returned.
type chunk struct {
	recs []mqttetl.Record
	err  error
}

// readAhead reads the next records while those before them are sent, so that
// reading takes no time from the pace. The last chunk has an error, or ctx has
// ended. When stop returns, from is used no more.
func readAhead(ctx context.Context, from Source) (chunks <-chan chunk, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan chunk, 1)
	go func() {
		defer close(out)
		for {
			recs, err := from.Next(ctx)
			select {
			case out <- chunk{recs, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out, func() {
		cancel()
		for range out { // until it is closed
			continue
		}
	}
}

// countEvery is after how many records at full speed the account is brought up,
// and ctx looked at.
const countEvery = 256

// some sends records, each when it is due.
func (p *Player) some(ctx context.Context, to Destination, recs []mqttetl.Record, s *score) error {
	var out sent
	defer p.count(&out)
	for i := range recs {
		if out.n == countEvery {
			p.count(&out)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if err := p.one(ctx, to, &recs[i], s, &out); err != nil {
			return err
		}
	}
	return nil
}

// sent is what the account does not say yet.
type sent struct {
	n    uint64
	at   mqttetl.Seq
	time int64
}

// count adds to the account what was sent.
func (p *Player) count(s *sent) {
	if s.n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account.Selected += s.n
	p.account.Sent += s.n
	p.account.At, p.account.Time = s.at, s.time
	s.n = 0
}

// one sends a record when it is due.
func (p *Player) one(ctx context.Context, to Destination, r *mqttetl.Record, s *score, out *sent) error {
	if r.Seq <= p.found {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.account.Selected++
		p.account.Already++
		p.settle(r.Seq, 1)
		return nil
	}
	at, timed := s.due(r.Time)
	if !timed {
		at = 0 // but a pause holds it up
	}
	if timed || p.beat.held.Load() {
		told := !timed || p.cfg.Silent == nil
		err := p.beat.wait(ctx, at, func() error {
			p.count(out)
			if left, paused, _ := p.beat.left(at); !told && !paused {
				told = true
				if left > longSilence {
					p.cfg.Silent(left, r.Time)
				}
			}
			return to.Flush(ctx)
		})
		if err != nil {
			return err
		}
	}
	r.Topic = p.cfg.Rewrite.Topic(r.Topic)
	if err := to.Send(ctx, r); err != nil {
		if ctx.Err() != nil {
			return err // perhaps the refusal of another record, which has been counted
		}
		return p.unsent(err)
	}
	out.n++
	out.at, out.time = r.Seq, r.Time
	return nil
}

// unsent takes the error of Send. It is nil if the replay goes on.
func (p *Player) unsent(err error) error {
	var refusal *RefusedError
	if !errors.As(err, &refusal) {
		return err
	}
	p.mu.Lock()
	p.account.Selected++
	p.mu.Unlock()
	return p.refuse(refusal)
}

func seqText(s mqttetl.Seq) string { return strconv.FormatUint(uint64(s), 10) }
