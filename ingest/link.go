package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/news"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// How long a link that is told to stop waits for the commit of what it has handed
// over, and together with that for the broker to take its goodbye, so that a planned
// stop causes no redeliveries. The commits take milliseconds, unless the disk is slow.
// On a busy machine a broker may take longer than that to read the goodbye, which
// comes after all acknowledgements. What is left of the second is for the log.
const (
	settleTime = 450 * time.Millisecond
	windDown   = 750 * time.Millisecond
)

// unreadTime is what a broker may take to read the acknowledgements that it is owed.
const unreadTime = time.Minute

// A plane is the control plane of one version of MQTT: it makes connections,
// speaks CONNECT, SUBSCRIBE and keepalive on them, and makes new ones.
type plane interface {
	// run keeps l connected until ctx ends. It calls l.dial for each connection,
	// l.up when the broker has accepted it, l.down when it has ended after that,
	// l.failed when it could not be made, and waits l.delay before each attempt.
	// It returns errVersion when l is to go on with the other version, nil when
	// ctx has ended.
	run(ctx context.Context, l *link) error
}

// A link is one of a source's connections to its broker, kept up over any
// number of conns: one client id, one session.
type link struct {
	cfg      *Config
	url      *url.URL
	source   string
	clientID string
	session  *session.Session

	log      Log
	logger   *slog.Logger
	counters *sourceCounters
	dropped  *dropped
	pace     pace

	watches  atomic.Bool // this link subscribes to droppedTopic
	versions choice      // of the goroutine that makes connections

	asPublished asPublished
	stop        context.CancelCauseFunc
	tasks       sync.WaitGroup // goroutines that subscribe

	mu             sync.Mutex
	conn           *conn
	stopping       bool // no further conn is made
	isUp           bool
	subscribed     bool
	everUp         bool
	everSubscribed bool
	undialed       error       // why the stream of the present attempt could not be opened
	since          time.Time   // of the present connection
	lasting        *time.Timer // until the present connection counts as one that lasts
	past           *past       // what is known of the session, nil before the log was asked
	outage
	said news.Trouble // what is said of outages
}

func newLink(cfg *Config, index int, u *url.URL, log Log, counters *sourceCounters, watch *dropped) *link {
	l := &link{
		cfg: cfg, url: u, log: log, counters: counters, dropped: watch,
		source:   cfg.Name,
		clientID: cfg.ClientID,
		pace:     defaultPace,
		stop:     func(error) {},
	}
	l.watches.Store(index == 0 && !watch.wanted)
	if index > 0 {
		l.clientID = fmt.Sprintf("%s-%d", cfg.ClientID, index+1)
	}
	l.logger = cfg.Logger.With("source", l.source, "broker", u.Host, "client_id", l.clientID)
	l.session = session.New(session.Config{
		Source: l.source, Key: l.source + "\x00" + l.clientID + "\x00" + u.Host, Sender: "the broker",
		ReceiveMaximum: int(cfg.ReceiveMaximum), MaxPacket: cfg.MaxPacket, Unread: unreadTime,
		Log: log, Logger: l.logger, Counters: counters, Failed: l.logFailed,
	})
	return l
}

// run keeps the link up until ctx ends (nil) or the log fails.
func (l *link) run(ctx context.Context) error {
	inner, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	l.stop = stop
	defer stop(nil)
	defer l.session.Wait()
	defer l.tasks.Wait()
	defer context.AfterFunc(ctx, func() { l.windDown(stop) })()

	for v5 := l.cfg.Version != Version311; errors.Is(planeOf(v5).run(inner, l), errVersion); v5 = !v5 {
	}
	if c := l.current(); c != nil {
		_ = c.Close()
	}
	l.down()
	if cause := context.Cause(inner); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// windDown brings the present connection to rest, then ends the control plane.
func (l *link) windDown(stop context.CancelCauseFunc) {
	l.log.Hurry() // also what a connection that has ended has left there
	l.mu.Lock()
	l.stopping = true
	c := l.conn
	l.mu.Unlock()
	if c != nil {
		defer c.Close()
		l.goodbye(c)
	}
	stop(nil)
}

// goodbye brings c to rest. MQTT 5 and 3.1.1 have the same DISCONNECT for it.
func (l *link) goodbye(c *conn) {
	committed, heard := c.data.Quiesce(settleTime, windDown, []byte{wire.Disconnect << 4, 0})
	switch {
	case !committed && !l.session.Stored():
		l.logger.Warn("stopped before the log had stored everything; the broker will send it again")
	case committed && !heard:
		l.logger.Warn("stopped before the broker had closed the connection; it may send again what was acknowledged last", "waited", windDown)
	}
}

func planeOf(v5 bool) plane {
	if v5 {
		return version5{}
	}
	return version311{}
}

// logFailed ends the link: the log will not take what it was given. It may be
// called from the goroutine that commits.
// It is no news of the connection: Run returns it.
func (l *link) logFailed(err error) {
	l.mu.Lock()
	l.stopping = true
	l.mu.Unlock()
	l.stop(fmt.Errorf("log: %w", err))
}

func (l *link) current() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// dial makes the next conn.
func (l *link) dial(ctx context.Context, v5 bool) (*conn, error) {
	l.setCurrent(nil)
	stream, err := l.cfg.Dialer().Dial(ctx, l.url)
	if err != nil {
		l.mu.Lock()
		l.undialed = err
		l.mu.Unlock()
		return nil, err
	}
	c := newConn(stream, l, v5)
	c.expect(l.patience())
	if !l.begin(c) {
		_ = c.Close()
		return nil, context.Canceled
	}
	return c, nil
}

// begin makes c the present conn, unless the link stops.
func (l *link) begin(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopping {
		l.conn = c
	}
	return !l.stopping
}

func (l *link) setCurrent(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = c
}

// up is called when the broker has accepted the present conn. Subscribing goes
// on in the background; a nil ask says that the session holds the subscriptions.
func (l *link) up(ctx context.Context, ask subscribeFunc) {
	l.mu.Lock()
	c, again := l.conn, l.everUp
	l.isUp, l.everUp, l.since, l.trouble, l.silent = true, true, time.Now(), "", 0
	l.lasting = time.AfterFunc(l.pace.lasting(l.slowly), func() { l.lasts(c) })
	l.mu.Unlock()
	l.counters.connection(+1)
	if again {
		l.counters.reconnected()
	}
	l.news("connected", "version", versionName(c.v5))
	if ask == nil {
		l.setSubscribed()
		return
	}
	l.tasks.Go(func() { l.subscribe(ctx, c, ask) })
}

// down is called when a connection that was up has ended.
func (l *link) down() {
	l.mu.Lock()
	if !l.isUp {
		l.mu.Unlock()
		return
	}
	c, wasSubscribed := l.conn, l.subscribed
	l.conn, l.isUp, l.subscribed = nil, false, false
	l.lasting.Stop()
	if time.Since(l.since) >= l.pace.lasting(l.slowly) {
		l.outage = outage{}
		l.said.Over()
	}
	l.brief++
	flapping, often, stopping := l.flapping(), l.brief >= closedOften, l.stopping
	l.mu.Unlock()
	l.counters.connection(-1)
	if wasSubscribed {
		l.counters.subscribed.Add(-1)
	}
	err := c.Err()
	if err == net.ErrClosed && !stopping {
		err = errGivenUp
	}
	if flapping && (err == errClosedByBroker || errors.Is(err, syscall.ECONNRESET)) {
		err = errClosedAgain
		if often {
			err = errClosedOften
		}
		if !l.wasSubscribed() {
			err = fmt.Errorf("%w, %w", err, errNeverSubscribed)
		}
	}
	l.tell(err)
}

// lasts ends the outage, if c is still there.
func (l *link) lasts(c *conn) {
	l.mu.Lock()
	if !l.isUp || l.conn != c {
		l.mu.Unlock()
		return
	}
	flapped := l.flapping()
	l.outage = outage{}
	l.said.Over()
	l.mu.Unlock()
	if flapped {
		l.logger.Info("connections last again", "version", versionName(c.v5))
	}
}

func (l *link) setSubscribed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isUp && !l.subscribed {
		l.subscribed, l.everSubscribed, l.trouble = true, true, ""
		l.counters.subscribed.Add(1)
	}
}

func (l *link) wasSubscribed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.everSubscribed
}

// delay is how long to wait before the next attempt.
func (l *link) delay() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures == 0 {
		return 0
	}
	if l.slowly {
		return l.pace.delay(l.slow, true)
	}
	return l.pace.delay(l.failures, false)
}

func versionName(v5 bool) string {
	if v5 {
		return Version5
	}
	return Version311
}
