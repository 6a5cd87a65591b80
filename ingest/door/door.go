package door

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest"
	"github.com/mqttetl/mqttetl/ingest/door/access"
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/news"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// windDown is how long the clients may take to hear goodbye when the door closes.
const windDown = 600 * time.Millisecond

// A Door is a listener and its clients.
type Door struct {
	cfg        Config
	log        Log
	logger     *slog.Logger
	listener   net.Listener
	tls        *access.File[tls.Config]       // nil: none
	passwords  *access.File[access.Passwords] // nil: none
	acl        *access.File[access.ACL]       // nil: everything is allowed
	numbers    ingest.Listening
	budget     *session.Budget
	unfinished *session.Budget // of messages that have not wholly come
	penalties  penalties
	members    members
	wills      wills

	said   news.Kinds  // refusals, by reason
	denied news.Seldom // messages that may not be published
	taken  news.Seldom // connections that were taken over

	stop    context.CancelCauseFunc
	ending  context.Context // until the door closes
	tasks   sync.WaitGroup
	closing atomic.Bool // it is we who end connections: no will is due

	mu        sync.Mutex
	conns     map[net.Conn]*client // of every connection; nil until its CONNECT is accepted
	strangers strangers            // those of which it is not
}

// Stats is the state of a door.
type Stats struct {
	ingest.Stats
	Clients  int64
	Sessions int // those of clients that are away among them
	Address  string
}

// Open reads the files and listens. What is wrong with one of them is the error.
// Nobody is let in before Run.
func Open(cfg Config, log Log) (*Door, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	d := &Door{
		cfg: cfg, log: log, logger: cfg.Logger.With("listener", cfg.Name),
		numbers: ingest.NewListening(cfg.Sources, cfg.Name),
		budget:  session.NewBudget(budget), unfinished: session.NewBudget(unfinished), conns: map[net.Conn]*client{},
	}
	d.fitFiles()
	cfg.MaxConnections = d.cfg.MaxConnections
	d.strangers = newStrangers(cfg.MaxConnections)
	d.members = members{door: d, most: awayPerClient * cfg.MaxConnections, of: map[string]*member{}, users: map[string]*list.List{}, heavy: map[string]bool{}, clearing: map[string]int{}}
	if err := d.open(); err != nil {
		err = fmt.Errorf("listener %s: %w", cfg.Name, err)
		if _, ok := errors.AsType[*fs.PathError](err); ok && mqttetl.Hint(err) == "" {
			err = mqttetl.WithHint(err, "the files of listen[] must be there, and the user of the service must be able to read them")
		}
		return nil, err
	}
	return d, nil
}

func (d *Door) open() (err error) {
	if err := d.cfg.check(); err != nil {
		return err
	}
	if d.cfg.PasswordFile != "" {
		if d.passwords, err = access.OpenPasswords(d.cfg.PasswordFile, d.changed("password_file")); err != nil {
			return err
		}
	}
	if d.cfg.ACLFile != "" {
		if d.acl, err = access.OpenACL(d.cfg.ACLFile, d.changed("acl_file")); err != nil {
			return err
		}
	}
	if d.cfg.Cert != "" {
		if d.tls, err = access.OpenTLS(d.cfg.Cert, d.cfg.Key, d.cfg.ClientCA, d.changed("tls")); err != nil {
			return err
		}
	}
	network, address, err := d.cfg.address()
	if err != nil {
		return err
	}
	d.listener, err = listen(network, address)
	return err
}

// changed says of a file that it was read again.
func (d *Door) changed(file string) func(error) {
	return func(err error) {
		if err != nil {
			d.logger.Error("a file has changed and is refused; what was read before stays in force", "file", file, "error", err)
			return
		}
		d.logger.Info("a changed file is in force", "file", file)
	}
}

// Addr is where the door listens.
func (d *Door) Addr() net.Addr { return d.listener.Addr() }

// Close closes a door that was not run.
func (d *Door) Close() error { return d.listener.Close() }

// Run lets clients in until ctx ends, says goodbye to them and returns nil. Only an
// error of the log, or one of the listener that does not pass, ends it earlier.
func (d *Door) Run(ctx context.Context) error {
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	d.stop, d.ending = stop, running
	d.logger.Info("listening", "address", d.Addr().String())
	ended := context.AfterFunc(ctx, func() { d.windDown(); stop(nil) })
	defer ended()
	accepted := make(chan error, 1)
	go func() { accepted <- d.accept() }()
	var err error
	select {
	case err = <-accepted:
		if ctx.Err() != nil { // windDown has closed the listener, and the clients hear goodbye first
			<-running.Done()
			err = nil
		}
		stop(err)
	case <-running.Done():
		_ = d.listener.Close()
		<-accepted
	}
	d.closing.Store(true)
	d.closeAll()
	d.members.close()
	d.tasks.Wait()
	if cause := context.Cause(running); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("listener %s: %w", d.cfg.Name, err)
	}
	return nil
}

// acceptAgain is how long the door waits after an error that may pass: too many
// open files.
const acceptAgain = 100 * time.Millisecond

func (d *Door) accept() error {
	for {
		nc, err := d.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			d.refused(nil, "accept", err)
			select {
			case <-time.After(acceptAgain):
			case <-d.ending.Done():
				return nil
			}
		default:
			d.comes(nc)
		}
	}
}

// comes takes in a connection, if there is a place.
func (d *Door) comes(nc net.Conn) {
	s := d.enter(nc)
	if s == nil {
		_ = nc.Close()
		d.refused(nc.RemoteAddr(), forLimit, fmt.Errorf("%d clients are connected, as many as max_connections allows", d.cfg.MaxConnections))
		return
	}
	d.tasks.Go(func() {
		defer d.leave(s)
		d.serve(s)
	})
}

// accepted notes whose connection it is.
func (d *Door) accepted(nc net.Conn, c *client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[nc] = c
}

// windDown brings all connections to rest.
func (d *Door) windDown() {
	d.closing.Store(true)
	_ = d.listener.Close()
	d.log.Hurry()
	var clients sync.WaitGroup
	d.mu.Lock()
	for nc, c := range d.conns {
		if c == nil {
			_ = nc.Close()
			continue
		}
		clients.Go(c.goodbye)
	}
	d.mu.Unlock()
	clients.Wait()
}

// closeAll ends what is left of the connections.
func (d *Door) closeAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for nc := range d.conns {
		_ = nc.Close()
	}
}

// refused counts, and says once in a while, that a client was refused, or that its
// connection was ended for what it did.
func (d *Door) refused(who net.Addr, reason string, err error, more ...any) {
	d.cfg.Metrics.refusals.WithLabelValues(d.cfg.Name, reason).Inc()
	if fault := (*wire.Error)(nil); errors.As(err, &fault) && fault.Code != wire.CodeQuota {
		err = fmt.Errorf("against the protocol (0x%02x): %s", fault.Code, fault.What)
	}
	if n := d.said.Count(reason); n > 0 {
		if who != nil {
			more = append([]any{"address", who.String()}, more...)
		}
		d.logger.Warn("a client is refused", append(more, "reason", reason, "error", err, "times", n)...)
	}
}

// failed ends the door: the log will not take what it was given. It may be called
// from the goroutine that commits.
func (d *Door) failed(err error) { d.stop(fmt.Errorf("log: %w", err)) }

// Stats returns the door's state. It may be called at any time.
func (d *Door) Stats() Stats {
	return Stats{Stats: d.numbers.Stats(d.cfg.Name), Clients: d.numbers.Clients(), Sessions: d.members.len(), Address: d.Addr().String()}
}

// rights are those of a client by what the ACL says now; nil: all.
func (d *Door) rights(user, clientID string) (*access.ACL, *access.Rights) {
	if d.acl == nil {
		return nil, nil
	}
	acl := d.acl.Get(time.Now().UnixNano())
	return acl, acl.For(user, clientID)
}

// append hands a batch of the door's own to the log. done is called when it is there.
func (d *Door) append(b *mqttetl.Batch, done func()) {
	b.Source = d.cfg.Name
	cost := max(session.LeastCost, b.Cap())
	b.Done = func(_ mqttetl.Seq, err error) {
		d.budget.Give(cost)
		if err != nil {
			d.failed(err)
			return
		}
		done()
	}
	d.budget.Take(cost)
	d.log.Append(b)
}
