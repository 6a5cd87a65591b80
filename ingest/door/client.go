package door

import (
	"bytes"
	"errors"
	"net"
	"time"

	"github.com/mqttetl/mqttetl/ingest/door/access"
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// Why a connection has ended, beside what the client did against the protocol.
var (
	errDeparted  = errors.New("the client has disconnected")
	errTakenOver = errors.New("the same client has connected again")
	errKeepAlive = errors.New("nothing has come within one and a half times the keepalive")
	errStopped   = errors.New("the service stops")
)

// errDenied: a message may not be published, and before MQTT 5 there is no word for it but a
// PUBACK, which means that it is on disk.
var errDenied = &wire.Error{Code: wire.CodeNotAuthorized, What: "it has published where it may not, and MQTT before 5 cannot say so (with denied: acknowledge such messages are acknowledged and dropped)"}

// A client is one connection whose CONNECT was accepted. To its session it is the
// control plane, and the judge of what the client publishes.
type client struct {
	door  *Door
	nc    net.Conn
	place net.Conn // by which the door knows the connection: below nc, if that is TLS
	conn  *session.Conn

	user, id, key string
	version       byte
	v5            bool
	assigned      bool   // the id is ours
	expiry        uint32 // seconds that the session stays; wire.NeverExpires
	will          *will  // nil: none, or the client has said goodbye
	member        *member
	ended         chan struct{} // closed when nothing reads the connection any more

	acl     *access.ACL // of which the rights are
	rights  *access.Rights
	topics  map[string]bool // to which the client was allowed to publish; a bounded number
	aliases aliases
}

// run has the connection until it ends.
func (c *client) run(said *wire.Login, rest []byte) {
	d := c.door
	kept := d.members.join(c, said.CleanStart)
	if len(rest) > 0 {
		c.conn.Feed(rest)
	}
	d.accepted(c.place, c)
	d.numbers.Client(+1)
	d.cfg.Metrics.connects.WithLabelValues(d.cfg.Name).Inc()
	err := c.serve(said, kept)
	d.numbers.Client(-1)
	c.part(err)
}

// serve answers CONNECT and receives until the connection ends.
func (c *client) serve(said *wire.Login, kept bool) error {
	clearing := c.door.members.isClearing(c.key)
	present, err := c.present(said.CleanStart || clearing, kept)
	if err != nil {
		c.door.failed(err)
		return err
	}
	if _, err := c.conn.Begin(present, kept || clearing, false); err != nil {
		c.door.failed(err)
		return err
	}
	if present {
		c.door.members.resumed(c.member)
	}
	if err := c.send(c.door.connack(c, said, present)); err != nil {
		return err
	}
	defer c.watch(time.Duration(c.door.keepAlive(c, said)) * time.Second)()
	for {
		if err := c.conn.Step(); err != nil {
			return err
		}
		if c.door.acl != nil {
			c.door.acl.Get(time.Now().UnixNano()) // Plain sees when it has changed
		}
	}
}

// present says whether the client finds its session. After a restart that is one
// of which the log has packet ids, unless they are of one that has ended (none).
func (c *client) present(none, kept bool) (bool, error) {
	if none || kept {
		return kept, nil
	}
	ids, err := c.door.log.PacketIDs(c.key)
	return len(ids) > 0, err
}

// part puts away what is left of the connection.
func (c *client) part(err error) {
	d := c.door
	c.conn.Fail(err)
	c.member.session.Wait()
	fault := (*wire.Error)(nil)
	switch {
	case errors.Is(err, errDenied):
		d.refused(c.nc.RemoteAddr(), forDenied, errors.New(errDenied.What), "client_id", c.id)
	case errors.As(err, &fault) && fault.Code == wire.CodeQuota:
		d.refused(c.nc.RemoteAddr(), forQuota, err, "client_id", c.id)
	case errors.As(err, &fault):
		d.refused(c.nc.RemoteAddr(), forProtocol, err, "client_id", c.id)
	case errors.Is(err, session.ErrUnread):
		d.refused(c.nc.RemoteAddr(), forUnread, err, "client_id", c.id)
	case errors.Is(err, errKeepAlive):
		d.refused(c.nc.RemoteAddr(), forKeepAlive, err, "client_id", c.id)
	}
	if d.closing.Load() {
		c.will = nil // the client is there, it is we who go
	}
	c.topics, c.aliases = nil, aliases{} // batches on their way to the log keep the client
	d.members.part(c, c.expiry, c.will)
	close(c.ended)
}

// watch ends the connection when nothing has come for one and a half times the
// keepalive. While nothing is read, because the log is full, no time passes.
func (c *client) watch(keepAlive time.Duration) (stop func()) {
	if keepAlive == 0 {
		return func() {}
	}
	patience := keepAlive * 3 / 2
	var timer *time.Timer
	timer = time.AfterFunc(time.Hour, func() {
		if c.conn.Err() != nil {
			return // it has ended while this began
		}
		silent := time.Duration(0)
		if since := c.conn.Waiting(); since > 0 {
			silent = time.Duration(time.Now().UnixNano() - since)
		}
		if silent >= patience {
			c.dismiss(wire.CodeKeepAlive, errKeepAlive)
			return
		}
		timer.Reset(patience - silent)
	})
	timer.Reset(patience)
	return func() { timer.Stop() }
}

// dismiss ends the connection, with a word where there is one for it.
func (c *client) dismiss(code byte, reason error) {
	c.conn.Dismiss(c.farewell(code), reason)
}

func (c *client) farewell(code byte) []byte {
	if !c.v5 {
		return nil // there is no DISCONNECT of a server
	}
	return []byte{wire.Disconnect << 4, 1, code}
}

// takeOver ends the connection because its client has connected again.
func (c *client) takeOver() {
	c.door.cfg.Metrics.again.WithLabelValues(c.door.cfg.Name).Inc()
	if n := c.door.taken.Count(); n > 0 {
		c.door.logger.Info("a client has connected again, and its connection before was ended", "client_id", c.id, "times", n)
	}
	c.dismiss(wire.CodeTakenOver, errTakenOver)
}

// goodbye brings the connection to rest because the door closes.
func (c *client) goodbye() {
	c.conn.Quiesce(windDown*3/4, windDown, c.farewell(wire.CodeShuttingDown))
	c.conn.Fail(errStopped)
}

// send writes a packet. A client that does not read it in time is ended.
func (c *client) send(packet []byte) error {
	late := time.AfterFunc(unreadTime, func() { c.conn.Fail(session.ErrUnread) })
	defer late.Stop()
	return c.conn.Send(packet)
}

// Admit implements session.Control.
func (c *client) Admit(first byte) error {
	switch kind := first >> 4; kind {
	case wire.Puback, wire.Pubrec, wire.Pubcomp:
		return wire.Violation("%s for what was never published", wire.Name(kind))
	}
	return wire.CheckFirstOfClient(first, c.version)
}

// Packet implements session.Control.
func (c *client) Packet(first byte, _, body []byte) (pause bool, err error) {
	switch kind := first >> 4; kind {
	case wire.Pingreq:
		if len(body) > 0 {
			return false, wire.Malformed("a PINGREQ of %d bytes", len(body))
		}
		return false, c.send(pingresp)
	case wire.Disconnect:
		return false, c.departs(body)
	default:
		return false, c.subscribes(kind, body)
	}
}

var pingresp = []byte{wire.Pingresp << 4, 0}

// departs takes a DISCONNECT.
func (c *client) departs(body []byte) error {
	withWill, expiry, changed, err := wire.ReadDeparture(body, c.v5)
	if err != nil {
		return err
	}
	if changed {
		if c.expiry == 0 && expiry > 0 {
			return wire.Violation("a DISCONNECT that keeps a session which CONNECT did not")
		}
		c.expiry = expiry
	}
	if !withWill {
		c.will = nil
	}
	return errDeparted
}

// subscribes answers a SUBSCRIBE or UNSUBSCRIBE: nothing is delivered.
func (c *client) subscribes(kind byte, body []byte) error {
	if kind == wire.Unsubscribe {
		id, _, list, err := wire.ReadUnsubscribe(body, c.v5)
		if err != nil {
			return err
		}
		a := wire.Answer{ID: id, Codes: bytes.Repeat([]byte{wire.NoSubscription}, len(list))}
		return c.send(wire.AppendCodes(nil, wire.Unsuback, c.v5, a))
	}
	id, _, list, err := wire.ReadSubscribe(body, c.v5)
	if err != nil {
		return err
	}
	code := byte(wire.CodeUnspecified)
	if c.v5 {
		code = wire.CodeImplementation
	}
	a := wire.Answer{ID: id, Codes: bytes.Repeat([]byte{code}, len(list))}
	return c.send(wire.AppendCodes(nil, wire.Suback, c.v5, a))
}

// IDsReused implements session.Control. What a device does with its ids is not remembered.
func (c *client) IDsReused() {}

// Reserved implements session.Control. Judge lets no such topic through.
func (c *client) Reserved([]byte, []byte, int) bool { return false }

// Held implements session.Judge: the client's own PINGREQ may be in what is not
// read, so it gets the answer without.
func (c *client) Held() { _ = c.send(pingresp) } // Step sees the error
