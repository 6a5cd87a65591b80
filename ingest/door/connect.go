package door

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"crypto/rand"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/door/access"
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// refusal is why a CONNECT is refused.
type refusal struct {
	code   byte   // 0: no answer
	reason string // by which it is counted
	error
}

// serve has one connection, from its CONNECT to its end.
func (d *Door) serve(s *stranger) {
	_ = s.nc.SetDeadline(time.Now().Add(connectTime))
	nc, err := d.secure(s.nc)
	if err != nil {
		d.unheard(s, err)
		return
	}
	body, rest, err := d.readConnect(s, nc)
	if err != nil {
		d.unheard(s, err)
		return
	}
	said, err := wire.ReadConnect(body)
	if err != nil {
		d.refuse(s, nc, &said, refusalOf(err))
		return
	}
	c, refused := d.admit(s.ctx, nc, &said)
	if refused != nil {
		d.refuse(s, nc, &said, refused)
		return
	}
	said.Password, said.Props, said.Will = nil, nil, nil // they keep all of the CONNECT
	if !d.known(s) {
		d.unheard(s, net.ErrClosed)
		return
	}
	_ = nc.SetDeadline(time.Time{})
	c.place = s.nc
	c.run(&said, rest)
}

// errNoMQTT: the first byte is none of a CONNECT.
var errNoMQTT = errors.New("the first packet is no CONNECT; is it a client of MQTT, and without TLS?")

// readConnect reads a CONNECT, and what has come after it. The buffer grows as
// bytes come, not by what the length says.
func (d *Door) readConnect(s *stranger, nc net.Conn) (body, rest []byte, err error) {
	buf := make([]byte, 0, 512)
	for {
		n, err := nc.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > 0 && buf[0] != wire.Connect<<4 {
			return nil, nil, errNoMQTT
		}
		_, size, remaining, bad := wire.FixedHeader(buf)
		switch {
		case bad != nil:
			return nil, nil, bad
		case remaining > mostConnect:
			return nil, nil, wire.Malformed("a CONNECT of %d bytes", remaining)
		case size > 0 && len(buf) >= size+remaining:
			return buf[size : size+remaining], slices.Clone(buf[size+remaining:]), nil
		case err != nil:
			return nil, nil, err
		}
		if len(buf) < cap(buf) {
			continue
		}
		if err := d.reads(s, 2*cap(buf)); err != nil {
			return nil, nil, err
		}
		buf = append(make([]byte, 0, 2*cap(buf)), buf...)
	}
}

// unheard notes a connection that ended before its CONNECT.
func (d *Door) unheard(s *stranger, err error) {
	who := s.nc.RemoteAddr()
	switch {
	case context.Cause(s.ctx) == errCrowded:
		d.refused(who, forLimit, errCrowded)
	case errors.Is(err, errConnects):
		d.refused(who, forLimit, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		d.refused(who, forSilence, fmt.Errorf("no CONNECT within %v", connectTime))
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		d.refused(who, forSilence, errors.New("the connection ended before its CONNECT"))
	default:
		d.refused(who, forProtocol, err)
	}
}

// refusalOf is that of a CONNECT that cannot be read.
func refusalOf(err error) *refusal {
	r := &refusal{wire.CodeMalformed, forProtocol, err}
	if fault := (*wire.Error)(nil); errors.As(err, &fault) {
		r.code = fault.Code
	}
	if r.code == wire.CodeVersion {
		r.reason = forVersion
	}
	return r
}

// refuse answers a CONNECT that is refused.
func (d *Door) refuse(s *stranger, nc net.Conn, said *wire.Login, r *refusal) {
	if context.Cause(s.ctx) == errCrowded {
		d.unheard(s, r)
		return
	}
	d.refused(nc.RemoteAddr(), r.reason, r, "client_id", said.ClientID[:min(len(said.ClientID), longestID)])
	if r.code == 0 {
		return
	}
	_ = nc.SetDeadline(time.Now().Add(time.Second))
	_, _ = nc.Write(wire.AppendRefusal(nil, said.Version, r.code)) // it is closed either way
}

// admit says whether a client may come in.
func (d *Door) admit(ctx context.Context, nc net.Conn, said *wire.Login) (*client, *refusal) {
	c := &client{door: d, nc: nc, version: said.Version, v5: said.Version == wire.Version5, id: said.ClientID, expiry: said.SessionExpiry(), ended: make(chan struct{})}
	if said.AsksAuthentication() {
		return nil, &refusal{wire.CodeBadAuthentication, forProtocol, errors.New("an authentication method is asked for, and there is none")}
	}
	if len(c.id) > longestID {
		return nil, &refusal{wire.CodeClientID, forClientID, fmt.Errorf("a client id of %d bytes; at most %d are taken", len(c.id), longestID)}
	}
	var err error
	if c.user, err = d.identify(ctx, nc, said); err != nil {
		return nil, notIdentified(err)
	}
	if c.id == "" && !c.v5 && (!said.CleanStart || said.Version == wire.Version31) {
		return nil, &refusal{wire.CodeClientID, forClientID, errors.New("an empty client id, with which no session can be found again")}
	}
	if c.id == "" {
		c.id, c.assigned = "auto-"+rand.Text(), true
	}
	c.key = d.keyOf(c.user, c.id)
	c.acl, c.rights = d.rights(c.user, c.id)
	if w := said.Will; w != nil {
		if w.Topic[0] == '$' { // a bridge of Mosquitto has one, of its state
			return c, nil
		}
		if c.rights != nil && !c.rights.May(access.Write, []byte(w.Topic)) {
			return nil, &refusal{wire.CodeNotAuthorized, forWill, fmt.Errorf("a will to %q, where the client may not publish", w.Topic)}
		}
		c.will = willOf(c, w)
	}
	return c, nil
}

// identify says who a client is, "" for one without a name. A wrong answer to that is waited for.
func (d *Door) identify(ctx context.Context, nc net.Conn, said *wire.Login) (user string, err error) {
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	var check func() error
	switch {
	case d.cfg.CommonName:
		if user, err = commonName(nc); err == nil {
			return user, nil
		}
		check = func() error { return err }
	case said.Username == "" && !d.cfg.Anonymous:
		check = func() error { return errors.New("a client without a user name") }
	case said.Username == "" || d.passwords == nil: // without passwords a name proves nothing
		return "", nil
	default:
		p := d.passwords.Get(time.Now().UnixNano())
		if p.Known(said.Username, said.Password) {
			return said.Username, nil
		}
		check = func() error {
			right, err := p.Check(ctx, said.Username, said.Password)
			if err == nil && !right {
				err = errors.New("the password is wrong, or the user is unknown")
			}
			return err
		}
	}
	return said.Username, d.penalties.guess(ctx, nc.RemoteAddr(), check)
}

// notIdentified is the refusal of a client that is not known.
func notIdentified(err error) *refusal {
	code := byte(wire.CodeNotAuthorized)
	switch err {
	case errGuesses:
		code = 0
	case errTurn:
		code = wire.CodeBusy
	}
	return &refusal{code, forLogin, err}
}

func willOf(c *client, w *wire.WillMessage) *will {
	flags := mqttetl.Flags(w.QoS)
	if w.Retain {
		flags |= mqttetl.FlagRetain
	}
	return &will{
		Message: mqttetl.Message{Topic: []byte(w.Topic), Payload: slices.Clone(w.Payload), Properties: w.Message(), Flags: flags},
		user:    c.user, clientID: c.id, delay: w.Delay(),
	}
}

// newSession is the session of a client that has none.
func (d *Door) newSession(c *client) *session.Session {
	return session.New(session.Config{
		Source: d.cfg.Name, Key: c.key, Sender: "a client",
		ReceiveMaximum: int(d.cfg.ReceiveMaximum), MaxPacket: d.cfg.MaxPacket, Unread: unreadTime,
		Aliases: mostAliases, Recognised: recognised, Input: inputSize, Budget: d.budget, Unfinished: d.unfinished,
		Log: d.log, Logger: d.logger.With("client_id", c.id), Counters: d.numbers, Failed: d.failed,
	})
}

// connack is the answer to a CONNECT that is accepted.
func (d *Door) connack(c *client, said *wire.Login, present bool) []byte {
	var p wire.Properties
	if c.v5 {
		p = p.AppendNumber(wire.ReceiveMaximum, uint32(d.cfg.ReceiveMaximum))
		p = p.AppendNumber(wire.MaximumPacketSize, uint32(d.cfg.MaxPacket))
		p = p.AppendNumber(wire.TopicAliasMaximum, mostAliases)
		p = p.AppendNumber(wire.WildcardAvailable, 0).AppendNumber(wire.IdentifiersAvailable, 0).AppendNumber(wire.SharedAvailable, 0)
		if c.assigned {
			p = p.AppendText(wire.AssignedClientID, c.id)
		}
		if keepAlive := d.keepAlive(c, said); keepAlive != said.KeepAlive {
			p = p.AppendNumber(wire.ServerKeepAlive, uint32(keepAlive))
		}
	}
	return wire.AppendConnack(nil, c.v5, wire.Answer{Present: present, Props: p})
}

// keepAlive is the client's, in seconds, unless it can be told of a shorter one.
func (d *Door) keepAlive(c *client, said *wire.Login) uint16 {
	most := uint16(d.cfg.KeepAliveMax / time.Second)
	if c.v5 && (said.KeepAlive == 0 || said.KeepAlive > most) {
		return most
	}
	return said.KeepAlive
}
