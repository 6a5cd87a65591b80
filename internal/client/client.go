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
)

// Received is a message as the broker delivered it.
type Received struct {
	mqttetl.Message
	ID uint16 // packet id; 0 with QoS 0
}

// Options describe a connection.
type Options struct {
	Version    byte // Version5 or Version311
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
	// Debug gets a line for every packet, and may be nil.
	Debug func(line string)
}

// DefaultWindow keeps a connection busy and what may come twice small.
const DefaultWindow = 1000

// Limits of the present implementation.
const (
	connackTime = 10 * time.Second
	goodbyeTime = 2 * time.Second
	readBuffer  = 64 << 10
	flushSize   = 16 << 10 // bytes to publish that wake the writer by themselves
	outMost     = 1 << 20  // bytes to publish at which Publish waits for the writer
)

// ErrClosedByBroker: the broker closed the connection without saying why.
var ErrClosedByBroker = fmt.Errorf("the broker closed the connection (%w)", mqttetl.ErrUnavailable)

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

	o        Options
	conn     net.Conn
	in       *bufio.Reader
	patience time.Duration     // how long the broker may send nothing; 0: for ever
	taken    bool              // messages since the last Flush, the reader's own
	acks     []byte            // of received messages, the reader's own
	held     map[uint16]bool   // QoS 2 ids that are received and not released, the reader's own
	alias    map[uint16][]byte // topics by their alias, the reader's own
	ended    chan struct{}     // closed when the connection is over
	tasks    sync.WaitGroup
	unhook   func() bool

	mu      sync.Mutex
	changed sync.Cond
	err     error // why it is over
	leaving bool  // DISCONNECT is on its way, nothing else may follow
	out     []byte
	writing bool // the writer is in Write
	flush   bool // the writer is to write what there is
	flight  flight
	waits   map[uint16]chan []byte // SUBACK and UNSUBACK by packet id
}

// Connect logs in over conn, which it owns from then on. A refusal is an error
// with a *Refusal in its chain. The connection ends when ctx does.
func Connect(ctx context.Context, conn net.Conn, o Options) (*Client, error) {
	if o.Version == Version311 && o.Window311 > 0 {
		o.Window = o.Window311
	}
	if o.Window <= 0 {
		o.Window = DefaultWindow
	}
	c := &Client{
		ClientID: o.ClientID, ReceiveMaximum: 65535, MaximumQoS: 2,
		o: o, conn: conn, patience: connackTime,
		held: map[uint16]bool{}, alias: map[uint16][]byte{},
		ended: make(chan struct{}), waits: map[uint16]chan []byte{},
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
	if _, err := c.conn.Write(c.o.connect()); err != nil {
		return unanswered{lost(err)}
	}
	first, body, err := c.packet()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return unanswered{fmt.Errorf("no CONNACK within %v: %w", connackTime, mqttetl.ErrUnavailable)}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errNotMQTT) {
		return lost(err) // it was an answer, of whatever kind
	}
	if err != nil {
		return unanswered{lost(err)}
	}
	if first>>4 != typeConnack || len(body) < 2 {
		return fmt.Errorf("the answer to CONNECT is not a CONNACK (0x%02x): %w", first, errNotMQTT)
	}
	_ = c.conn.SetWriteDeadline(time.Time{})
	return c.connack(body)
}

var errNotMQTT = fmt.Errorf("this is not MQTT (%w)", mqttetl.ErrUnavailable)

// connack takes the broker's answer (MQTT 5 §3.2).
func (c *Client) connack(body []byte) error {
	c.debug("received CONNACK (%d)", body[1])
	c.SessionPresent = body[0]&1 != 0
	v311 := c.o.Version != Version5 || body[1] != 0 && body[1] < 0x80
	r := &Refusal{Packet: "CONNACK", Code: body[1], V311: v311}
	if !v311 {
		props, _, err := splitProperties(body[2:])
		if err == nil {
			err = props.each(func(id byte, v property) { c.told(id, v, r) })
		}
		if err != nil {
			return fmt.Errorf("CONNACK: %w", err)
		}
	}
	if r.Code != 0 {
		return r.hint()
	}
	return nil
}

// told takes a property of CONNACK.
func (c *Client) told(id byte, v property, r *Refusal) {
	switch id {
	case reasonString:
		r.Reason = v.text
	case assignedClientID:
		c.ClientID = v.text
	case receiveMaximum:
		c.ReceiveMaximum = int(v.number)
	case maximumQoS:
		c.MaximumQoS = byte(v.number)
	case retainAvailable:
		c.RetainRefused = v.number == 0
	case maximumPacketSize:
		c.MaximumPacket = int(v.number)
	case serverKeepAlive:
		c.o.KeepAlive = uint16(v.number)
	}
}

// splitProperties cuts properties with their length from the front of b.
func splitProperties(b []byte) (p Properties, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, nil
	}
	size, n := mqttetl.VarInt(b)
	if n <= 0 || len(b) < n+int(size) {
		return nil, nil, errors.New("malformed properties")
	}
	return Properties(b[n : n+int(size)]), b[n+int(size):], nil
}

// lost is the error of a connection that ended.
func lost(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrClosedByBroker
	}
	return fmt.Errorf("connection lost: %w (%w)", err, mqttetl.ErrUnavailable)
}

// patient reads from the connection and gives up when nothing comes for long.
type patient struct{ *Client }

func (r patient) Read(p []byte) (int, error) {
	deadline := time.Time{}
	if r.patience > 0 {
		deadline = time.Now().Add(r.patience)
	}
	r.mu.Lock()
	if !r.leaving {
		_ = r.conn.SetReadDeadline(deadline) // a closed connection says so in Read
	}
	r.mu.Unlock()
	return r.conn.Read(p)
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

// Disconnect says goodbye, with a reason code that MQTT 3.1.1 has not, and waits
// until the broker has closed the connection.
func (c *Client) Disconnect(code byte) {
	c.goodbye(code)
	<-c.ended
	c.Close()
}

// goodbye lets everything leave that is to leave, and a DISCONNECT behind it.
// From then on the reader only waits for the end: to close a connection with
// unread bytes in it would make TCP drop what the broker has not read either,
// such as our last acknowledgements.
func (c *Client) goodbye(code byte) {
	var body []byte
	if c.o.Version == Version5 && (code != 0 || len(c.o.Goodbye) > 0) {
		body = c.o.properties([]byte{code}, c.o.Goodbye)
	}
	c.debug("sending DISCONNECT")
	deadline := time.Now().Add(goodbyeTime)
	_ = c.conn.SetWriteDeadline(deadline)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leaving {
		c.leaving = true
		c.out = appendPacket(c.out, typeDisconnect<<4, body)
		c.flushLocked()
	}
	for c.err == nil && (c.writing || len(c.out) > 0) {
		c.changed.Wait()
	}
	_ = c.conn.SetReadDeadline(deadline)
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
		c.debug("sending PINGREQ")
		c.mu.Lock()
		c.out = append(c.out, typePingreq<<4, 0)
		c.flushLocked()
		c.mu.Unlock()
	}
}
