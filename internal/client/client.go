package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// Received is a message as the broker delivered it.
type Received struct {
	mqttetl.Message
	ID uint16 // packet id; 0 with QoS 0
}

// Options describe a connection.
type Options struct {
	Version    byte // Version5, Version311 or Version31
	ClientID   string
	Username   string
	Password   []byte // nil: none
	CleanStart bool   // clean session, with 3.1.1
	KeepAlive  uint16 // seconds; 0: no pings, and a dead broker is not noticed
	Properties Properties
	Will       *Message
	Goodbye    Properties // of DISCONNECT
	Window     int        // unacknowledged messages to publish at once; 0: DefaultWindow
	Window311  int        // the same where 3.1.1 is spoken; 0: Window

	// Receive gets every message, on the goroutine that reads; the slices are
	// valid during the call. A message is acknowledged some time after the call.
	// An error ends the connection with that error; see also ErrStop.
	Receive func(*Received) error
	// Hold leaves received messages unacknowledged, to see how many the broker
	// sends without.
	Hold bool
	// Flush is called when nothing more has come for now, and before the
	// acknowledgements of received messages leave. It makes sure that they have
	// gone where they should, and may be nil.
	Flush func() error
	// Acknowledged is called once for every message with QoS 1 or 2 that the
	// broker has answered for, with nil or a *Refusal, and may be nil.
	Acknowledged func(id uint16, err error)
	// Pinged is told of each PINGRESP: how many PINGREQs are answered. It may be nil.
	Pinged func(answered uint64)
	// Debug gets a line for every packet, and may be nil.
	Debug func(line string)
}

// DefaultWindow keeps a connection busy and what may come twice small.
const DefaultWindow = 1000

// Limits of the present implementation.
const (
	connackTime = 10 * time.Second
	goodbyeTime = 2 * time.Second        // for the last bytes to leave, and the broker to end what it was sending
	quietTime   = 100 * time.Millisecond // of silence after DISCONNECT that a broker may need to close
	readBuffer  = 64 << 10
	flushSize   = 16 << 10    // bytes to publish that wake the writer by themselves
	outMost     = 1 << 20     // bytes to publish at which Publish waits for the writer; at twice that the reader waits too
	unreadTime  = time.Minute // that the broker may read nothing of so much
	mostAliased = 4 << 20     // bytes of topics that have an alias
)

// ErrClosedByBroker: the broker closed the connection without saying why.
var ErrClosedByBroker = unavailable{errors.New("the broker closed the connection")}

// errUnread: the broker reads nothing of what it is sent.
var errUnread = unavailable{errors.New("the broker reads nothing of what it is answered")}

// Client is one connection. Its methods may be called from any goroutine; from
// within the functions of Options only Publish with QoS 0.
type Client struct {
	// What the broker said in CONNACK.
	ClientID       string // ours, or the one that the broker assigned
	SessionPresent bool
	ReceiveMaximum int // messages that the broker takes unacknowledged; 65535 unless it says less
	MaximumQoS     byte
	RetainRefused  bool
	MaximumPacket  int // bytes; 0: the broker names no limit

	o         Options
	conn      net.Conn
	in        *bufio.Reader
	patience  time.Duration     // how long the broker may send nothing; 0: for ever
	message   Received          // the one at hand, the reader's own
	taken     bool              // messages since the last Flush, the reader's own
	acks      []byte            // of received messages, the reader's own
	held      map[uint16]bool   // QoS 2 ids that are received and not released, the reader's own
	alias     map[uint16][]byte // topics by their alias, the reader's own
	aliased   int               // bytes of the topics in alias
	limits    wire.Limits
	maxPacket int    // bytes after the fixed header, of a PUBLISH
	unseen    int    // packets since the reader was idle
	pongs     uint64 // PINGRESPs, the reader's own
	unread    time.Duration
	ended     chan struct{} // closed when the connection is over
	tasks     sync.WaitGroup
	unhook    func() bool

	mu      sync.Mutex
	changed sync.Cond
	err     error     // why it is over
	leaving bool      // DISCONNECT is on its way, nothing else may follow
	cause   error     // why it leaves, if it was not asked to
	until   time.Time // when leaving ends at the latest
	out     []byte
	writing bool // the writer is in Write
	flush   bool // the writer is to write what there is
	flight  flight
	pings   uint64
	waits   map[uint16]chan wire.Answer // SUBACK and UNSUBACK by packet id
}

// Connect logs in over conn, which it owns from then on. A refusal is an error
// with a *Refusal in its chain. The connection ends when ctx does.
func Connect(ctx context.Context, conn net.Conn, o Options) (*Client, error) {
	if o.Version != Version5 && o.Window311 > 0 {
		o.Window = o.Window311
	}
	if o.Window <= 0 {
		o.Window = DefaultWindow
	}
	c := &Client{
		ClientID: o.ClientID, ReceiveMaximum: 65535, MaximumQoS: 2,
		o: o, conn: conn, patience: connackTime,
		held: map[uint16]bool{}, alias: map[uint16][]byte{},
		ended: make(chan struct{}), waits: map[uint16]chan wire.Answer{}, limits: o.limits(),
		maxPacket: o.maxPacket(), unread: unreadTime,
	}
	c.changed.L = &c.mu
	c.in = bufio.NewReaderSize(patient{c}, readBuffer)
	c.unhook = context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	if err := c.handshake(); err != nil {
		c.fail(err)
		c.unhook()
		return nil, c.Err()
	}
	c.patience = time.Duration(c.o.KeepAlive) * time.Second * 3 / 2
	c.flight.window = min(o.Window, c.ReceiveMaximum)
	c.tasks.Go(c.read)
	c.tasks.Go(c.write)
	if o.KeepAlive > 0 {
		c.tasks.Go(c.ping)
	}
	return c, nil
}

func (c *Client) handshake() error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(connackTime))
	c.debug("sending CONNECT (v%d, clean %v, keepalive %d, id %q)", c.o.Version, c.o.CleanStart, c.o.KeepAlive, c.o.ClientID)
	if _, err := c.conn.Write(c.o.login().Append(nil)); err != nil {
		return dial.Unanswered(lost(err), c.conn)
	}
	// What is no broker may send no whole packet, so the first byte decides.
	if head, err := c.in.Peek(1); err == nil && head[0]>>4 != wire.Connack {
		return mqttetl.WithHint(unavailable{fmt.Errorf("the answer to CONNECT is not a CONNACK (0x%02x)", head[0])}, dial.NoBroker(head[0]))
	}
	first, body, err := c.packet()
	var fault *wire.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return dial.Unanswered(unavailable{fmt.Errorf("no CONNACK within %v", connackTime)}, c.conn)
	case errors.As(err, &fault):
		return errNotMQTT
	case errors.Is(err, io.ErrUnexpectedEOF):
		return lost(err) // it was an answer, of whatever kind
	case err != nil:
		return dial.Unanswered(lost(err), c.conn)
	}
	_ = c.conn.SetWriteDeadline(time.Time{})
	if err := wire.CheckFirst(first, c.limits.V5); err != nil {
		return err
	}
	return c.connack(body)
}

// limits are what CONNECT says.
func (o *Options) limits() wire.Limits {
	l := wire.Limits{V5: o.Version == Version5}
	for p := range o.Properties.All() {
		if p.ID == wire.TopicAliasMaximum {
			l.Aliases = uint16(p.Number)
		}
	}
	return l
}

// maxPacket is the largest PUBLISH that CONNECT allows.
func (o *Options) maxPacket() int {
	for p := range o.Properties.All() {
		if p.ID == wire.MaximumPacketSize && o.Version == Version5 {
			return int(min(p.Number, wire.MaxRemaining))
		}
	}
	return wire.MaxRemaining
}

var errNotMQTT = unavailable{errors.New("the answer to CONNECT is not MQTT")}

// unavailable is mqttetl.ErrUnavailable; it keeps its own text.
type unavailable struct{ error }

func (u unavailable) Unwrap() []error { return []error{u.error, mqttetl.ErrUnavailable} }

// connack takes the broker's answer (MQTT 5 §3.2).
func (c *Client) connack(body []byte) error {
	if c.limits.V5 && len(body) == 2 && body[1] == 0 {
		return (&Refusal{Packet: "CONNACK", Code: 1, V311: true, Reason: "it answers MQTT 5 as if it were 3.1.1"}).hint()
	}
	a, err := wire.ReadConnack(body, c.limits.V5)
	if err != nil {
		return err
	}
	c.debug("received CONNACK (%d)", a.Code)
	c.SessionPresent = a.Present
	if a.Code != 0 {
		return (&Refusal{Packet: "CONNACK", Code: a.Code, V311: !c.limits.V5 || a.Code < 0x80, Reason: a.Reason()}).hint()
	}
	for p := range a.Props.All() {
		c.told(p)
	}
	return nil
}

// told takes a property of CONNACK.
func (c *Client) told(p wire.Property) {
	switch p.ID {
	case wire.AssignedClientID:
		c.ClientID = string(p.Value)
	case wire.ReceiveMaximum:
		c.ReceiveMaximum = int(p.Number)
	case wire.MaximumQoS:
		c.MaximumQoS = byte(p.Number)
	case wire.RetainAvailable:
		c.RetainRefused = p.Number == 0
	case wire.MaximumPacketSize:
		c.MaximumPacket = int(p.Number)
	case wire.ServerKeepAlive:
		c.o.KeepAlive = uint16(p.Number)
	}
}

// lost is the error of a connection that ended.
func lost(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrClosedByBroker
	}
	return unavailable{fmt.Errorf("connection lost: %w", err)}
}

// patient reads from the connection and gives up when nothing comes for long.
type patient struct{ *Client }

func (r patient) Read(p []byte) (int, error) {
	r.mu.Lock()
	_ = r.conn.SetReadDeadline(r.deadlineLocked()) // a closed connection says so in Read
	r.mu.Unlock()
	return r.conn.Read(p)
}

// deadlineLocked is until when the broker may send nothing.
func (c *Client) deadlineLocked() (t time.Time) {
	if c.leaving {
		if t = time.Now().Add(quietTime); t.After(c.until) {
			return c.until
		}
		return t
	}
	if c.patience > 0 {
		t = time.Now().Add(c.patience)
	}
	return t
}

// fail ends the connection with a reason. Only the first reason counts.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	close(c.ended)
	_ = c.conn.Close() // the reason is known
	c.changed.Broadcast()
}

// Err is why the connection is over, nil while it is not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Version is the version of MQTT of the connection.
func (c *Client) Version() byte { return c.o.Version }

// Done is closed when the connection is over.
func (c *Client) Done() <-chan struct{} { return c.ended }

// errBye ends a connection at our own wish.
var errBye = errors.New("disconnected")

// Disconnect says goodbye, with a reason code, which MQTT 3.1.1 does not have, and
// closes the connection.
func (c *Client) Disconnect(code byte) {
	c.goodbye(code)
	<-c.ended
	c.Close()
}

// goodbye lets everything leave that is to leave, and a DISCONNECT after it.
// From then on the reader only takes what the broker was still sending, until
// the broker closes the connection or is silent for quietTime: to close it with
// unread bytes in it would make TCP drop what the broker has not read either,
// such as our last acknowledgements.
func (c *Client) goodbye(code byte) {
	c.debug("sending DISCONNECT")
	until := time.Now().Add(goodbyeTime)
	_ = c.conn.SetWriteDeadline(until)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leaving {
		c.leaving, c.until = true, until
		c.out = wire.AppendDisconnect(c.out, c.limits.V5, code, c.o.Goodbye)
		c.flushLocked()
	}
	for c.err == nil && (c.writing || len(c.out) > 0) {
		c.changed.Wait()
	}
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && c.err == nil {
		_ = half.CloseWrite() // some brokers wait for it
	}
	_ = c.conn.SetReadDeadline(c.deadlineLocked())
}

func (c *Client) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// Close drops the connection without goodbye: the broker publishes the will.
func (c *Client) Close() {
	c.fail(errBye)
	c.unhook()
	c.tasks.Wait()
}

func (c *Client) debug(format string, args ...any) {
	if c.o.Debug != nil {
		c.o.Debug(fmt.Sprintf(format, args...))
	}
}

// flushLocked wakes the writer.
func (c *Client) flushLocked() {
	c.flush = true
	c.changed.Broadcast()
}

// Flush lets everything leave that was published so far, without waiting.
func (c *Client) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) > 0 {
		c.flushLocked()
	}
}

// write writes what has been appended to out.
func (c *Client) write() {
	var spare []byte
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for c.err == nil && (!c.flush || len(c.out) == 0) {
			c.changed.Wait()
		}
		if c.err != nil {
			return
		}
		p := c.out
		c.out, c.flush, c.writing = spare[:0], false, true
		c.mu.Unlock()
		_, err := c.conn.Write(p)
		c.mu.Lock()
		spare, c.writing = p, false
		c.changed.Broadcast()
		if err != nil {
			c.mu.Unlock()
			c.fail(lost(err))
			c.mu.Lock()
		}
	}
}

// ping keeps the connection alive (MQTT 5 §3.1.2.10).
func (c *Client) ping() {
	t := time.NewTicker(time.Duration(c.o.KeepAlive) * time.Second * 3 / 4)
	defer t.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-t.C:
		}
		c.Ping()
	}
}

// Ping asks the broker to say when it has read everything before, and lets that
// leave. It returns how many PINGREQs have been sent, those of KeepAlive
// included: when so many are answered (Options.Pinged), the broker has.
func (c *Client) Ping() (sent uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return c.pings
	}
	c.pings++
	c.out = wire.AppendEmpty(c.out, wire.Pingreq)
	c.flushLocked()
	c.debug("sending PINGREQ")
	return c.pings
}
