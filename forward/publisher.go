package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// Object is something made of a record, to be published beside it.
type Object struct {
	Subject string
	Route   string // what made it
	N       int    // counts what the route has made of the record, from 0
	Body    []byte
}

// Mapper makes objects of records. It is called by one goroutine, with records
// in their order, some of them again after an error.
type Mapper interface {
	// Map returns the objects, none for most records, and dead letters for what
	// could not be made. Both are valid until the next call. After an error the
	// record comes again, after Rewind.
	Map(*mqttetl.Record) ([]Object, []mqttetl.DeadLetter, error)
	// Ahead says which records come next. They do not change until they have come,
	// or Ahead is called again.
	Ahead([]mqttetl.Record)
	// Settled says that none of the records mapped so far comes again.
	Settled()
	// Rewind says that the record after position comes next, as at the start. What is
	// remembered of records mapped since Settled was called last is to be forgotten.
	// After an error it is called again.
	Rewind(position mqttetl.Seq) error
}

// PublisherConfig says where to publish objects: Config's connection and log, and
// not its SubjectPrefix.
type PublisherConfig struct {
	Config
	// Subjects are NATS patterns that every object's subject matches one of. For
	// those that no stream takes the stream PublishStream(Stream) is created.
	Subjects []string
	Metrics  *PublisherMetrics // nil: not registered
	// NoLetters: nobody takes dead letters out of the log. Objects that no stream
	// takes are counted and not kept, since there may be one of every record.
	NoLetters bool
}

// PublishStream is the name of the stream for objects beside the stream for messages.
func PublishStream(stream string) string { return stream + "_MAPPED" }

// Publisher publishes what a Mapper makes of the records of a log, to JetStream.
//
// It is a consumer of its own: neither the archive nor the raw messages wait
// for it. Its position is that in the log, which moves when everything up to it
// is acknowledged. After a crash or an error what was in flight is published
// again with the same Nats-Msg-Id, <log id>-<seq>-<route>-<n>, by which the server
// drops it within the stream's duplicate window: at least once, then. An object
// that no stream takes holds up those after it for a while only, see refusals.
type Publisher struct {
	cfg      PublisherConfig
	records  Log
	mapper   Mapper
	backoff  backoff.Backoff
	trouble  trouble
	refused  refusals
	taken    map[string]int // ids that others have used: by which other id the object goes
	sent     mqttetl.Seq    // the last record of which something was published
	again    mqttetl.Seq    // what records up to it make may have been published before
	rechecks int            // sessions in a row that have ended with errRecheck, soon and for nothing
	blind    bool           // what the server calls a duplicate may not be read

	mu        sync.Mutex
	connected bool
	cursor    mqttetl.Seq
	err       error
	untaken   error // what no stream takes
}

// NewPublisher checks cfg; it does not connect.
func NewPublisher(cfg PublisherConfig, log Log, m Mapper) (*Publisher, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewPublisherMetrics(nil)
	}
	return &Publisher{cfg: cfg, records: log, mapper: m, taken: map[string]int{}, backoff: newBackoff(), trouble: trouble{log: cfg.Logger},
		refused: refusals{patience: refusalPatience, every: refusalCheck, routes: map[string]*refusedRoute{}}}, nil
}

// Stats returns the present state; nothing is ever in flight for long. What no
// stream takes counts as not connected.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{Connected: p.connected && p.untaken == nil, Cursor: p.cursor, LastError: cmp.Or(p.err, p.untaken)}
}

// Run publishes until ctx ends, and then returns nil. Errors of NATS are
// retried for ever; one of the log ends it.
func (p *Publisher) Run(ctx context.Context) error {
	p.set(func() { p.cursor = p.records.Stored() })
	p.again = p.cursor + nextMax // what was under way at a kill
	for {
		err := p.session(ctx)
		p.again = max(p.again, p.sent)
		var end fatal
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &end):
			return end.error
		case errors.Is(err, errRecheck):
			continue
		case errors.Is(err, errUnread):
			p.blind = true
			p.cfg.Logger.Warn("messages of the stream may not be read: what the server calls duplicates of mapped objects is believed",
				"error", err, "hint", "let the login publish to $JS.API.STREAM.MSG.GET.>")
		}
		p.set(func() { p.connected, p.err = false, err })
		p.cfg.Metrics.errors.Inc()
		p.trouble.state(err)
		if !p.backoff.Wait(ctx) {
			return nil
		}
	}
}

// Drain publishes until the log's Next returns io.EOF. Other than with Run the
// first error ends it, and what no stream takes is a dead letter at once.
func (p *Publisher) Drain(ctx context.Context) error {
	p.set(func() { p.cursor = p.records.Stored() })
	p.refused.patience, p.again = 0, ^mqttetl.Seq(0)
	err := errRecheck
	for errors.Is(err, errRecheck) && ctx.Err() == nil {
		err = p.session(ctx)
	}
	var end fatal
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &end) && errors.Is(end.error, io.EOF):
		return nil
	}
	return err
}

func (p *Publisher) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// session is the life of one connection. It returns why it ended. The streams are not looked
// at again and again without a pause while nothing is published, whatever the server says.
func (p *Publisher) session(ctx context.Context) error {
	begun, from := time.Now(), p.cursor
	err := p.connection(ctx)
	if !errors.Is(err, errRecheck) || p.cursor > from || time.Since(begun) >= p.refused.every {
		p.rechecks = 0
	}
	if errors.Is(err, errRecheck) {
		if p.rechecks++; p.rechecks > 1 {
			p.backoff.Wait(ctx)
		}
	}
	return err
}

func (p *Publisher) connection(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c, err := p.cfg.connect(ctx, cancel)
	if err != nil {
		return err
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.net.abort)()
	defer func() { err = c.ended(err) }()
	if err := p.streams(ctx, c); err != nil {
		return err
	}
	if err := p.recheck(ctx, c); err != nil {
		return err
	}
	if err := p.seek(); err != nil {
		return err
	}
	b := &burst{c: c, inbox: c.NewInbox(), acks: make(chan *nats.Msg, burstMessages), max: int(c.MaxPayload())}
	sub, err := c.ChanSubscribe(b.inbox+".*", b.acks)
	if err != nil {
		return unavailable("subscribe to acknowledgements", err)
	}
	defer sub.Unsubscribe()
	p.set(func() { p.connected, p.err = true, nil })
	for {
		if err := p.step(ctx, b); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
	}
}

// seek has the log continue after what is settled.
func (p *Publisher) seek() error {
	p.mu.Lock()
	after := p.cursor
	p.mu.Unlock()
	next, err := p.records.Seek(after)
	if err != nil {
		return fatal{fmt.Errorf("seek in the log: %w", err)}
	}
	if err := p.mapper.Rewind(after); err != nil {
		return fmt.Errorf("map records: %w", err) // a file of a decoder may be missing for now
	}
	if next > after+1 && after > 0 {
		p.cfg.Metrics.missing.Add(float64(next - after - 1))
		p.cfg.Logger.Warn("records that the log no longer holds are not mapped and published", "from", after+1, "to", next-1)
	}
	return nil
}

// step publishes what is made of the next records and waits until it is
// acknowledged.
func (p *Publisher) step(ctx context.Context, b *burst) error {
	records, err := p.next(ctx)
	if err != nil {
		return err
	}
	p.mapper.Ahead(records)
	for i := range records {
		if err := p.publish(ctx, b, &records[i]); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if b.due() || len(b.sent) > 0 && p.refused.waiting() { // what is sent after one that is refused is sent again
			if err := p.settle(ctx, b, records[i].Seq); err != nil {
				return err
			}
		}
	}
	return p.settle(ctx, b, records[len(records)-1].Seq)
}

// publish sends what is made of one record.
func (p *Publisher) publish(ctx context.Context, b *burst, rec *mqttetl.Record) error {
	objects, letters, err := p.mapper.Map(rec)
	if err != nil {
		return fmt.Errorf("map record %d: %w", rec.Seq, err)
	}
	b.unmade = append(b.unmade, letters...)
	for i := range objects {
		o := &objects[i]
		if len(b.sent) == burstMessages { // one record may make more than that
			if err := p.await(ctx, b); err != nil {
				return err
			}
		}
		s := sent{seq: rec.Seq, route: o.Route, subject: o.Subject}
		m := &nats.Msg{Subject: o.Subject, Data: o.Body, Header: nats.Header{}}
		s.id = fmt.Sprintf("%s-%s-%d", natsmsg.AppendMsgID(nil, p.cfg.LogID, rec.Seq), natsmsg.AppendEscaped(nil, o.Route), o.N)
		m.Header[natsmsg.HeaderMsgID] = []string{s.id + strings.Repeat("+", p.taken[s.id])}
		m.Header[natsmsg.HeaderTime] = []string{rec.When().Format("2006-01-02T15:04:05.000000000Z")}
		m.Header[natsmsg.HeaderTopic] = []string{string(natsmsg.AppendEscaped(nil, string(rec.Topic)))}
		switch size := len(o.Body) + 512 + 3*len(rec.Topic); {
		case len(o.Subject) > natsmsg.MaxSubject:
			b.bury(s, fmt.Sprintf("subject of %d bytes exceeds %d", len(o.Subject), natsmsg.MaxSubject))
			continue
		case size > b.max:
			b.bury(s, fmt.Sprintf("object of %d bytes exceeds the server's max_payload of %d", len(o.Body), b.max))
			continue
		}
		s.sum = maphash.Bytes(seed, o.Body) + sumLine(natsmsg.HeaderTime, m.Header[natsmsg.HeaderTime][0]) + sumLine(natsmsg.HeaderTopic, m.Header[natsmsg.HeaderTopic][0])
		m.Reply = b.inbox + "." + strconv.Itoa(len(b.sent))
		if err := b.c.PublishMsg(m); err != nil {
			return unavailable("publish to "+o.Subject, err)
		}
		b.sent, b.bytes = append(b.sent, s), b.bytes+len(o.Body)
		p.sent = rec.Seq
	}
	return nil
}

// settle moves the cursor up to seq once everything before it is acknowledged.
func (p *Publisher) settle(ctx context.Context, b *burst, seq mqttetl.Seq) error {
	if err := p.await(ctx, b); err != nil {
		return err
	}
	if !p.refused.waiting() {
		p.trouble.over()
	}
	b.letters, b.unmade = append(b.letters, b.unmade...), b.unmade[:0]
	slices.SortStableFunc(b.letters, func(a, b mqttetl.DeadLetter) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, l := range b.letters {
		p.commit(l.Seq - 1) // a dead letter is kept together with a position after it
		p.records.DeadLetter(l)
		p.cfg.Metrics.deadLetters.Inc()
	}
	b.letters = b.letters[:0]
	p.commit(seq)
	clear(p.taken)
	p.mapper.Settled()
	p.backoff.Reset()
	return nil
}

func (p *Publisher) commit(seq mqttetl.Seq) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if seq > p.cursor {
		p.cursor = seq
		p.records.Commit(seq)
	}
}
