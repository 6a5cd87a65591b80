package door

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
)

// errCrowded: others have come meanwhile, and there is no room for all.
var errCrowded = errors.New("too many connections have not finished their login; the oldest is closed")

// errConnects: what has come of all CONNECTs together is too much.
var errConnects = errors.New("the CONNECTs of all connections together are too long")

// strangers are the connections whose CONNECT has not been accepted. They are bounded apart
// from the clients, so that who says nothing does not keep those out who are known; and the
// oldest gives way, since who means to log in has done it by then. They change under the lock of the door.
type strangers struct {
	most int // of all
	each int // of one address; those of this machine have none

	all   list.List                   // *stranger, the oldest first
	of    map[netip.Prefix]*list.List // the same by address
	bytes int                         // of their CONNECTs, without the first freeConnect of each
}

type stranger struct {
	nc    net.Conn
	from  netip.Prefix // zero: of this machine
	ctx   context.Context
	end   context.CancelCauseFunc
	bytes int // charged

	place, own *list.Element // nil: it is none any more
}

func newStrangers(connections int) strangers {
	most := max(leastStrangers, connections/strangersPart)
	return strangers{most: most, each: max(leastOfOne, most/ofOnePart), of: map[netip.Prefix]*list.List{}}
}

// strangerOf is the connection as one of the strangers.
func strangerOf(ctx context.Context, nc net.Conn) *stranger {
	s := &stranger{nc: nc, from: prefixOf(nc.RemoteAddr())}
	if tcp, ok := nc.RemoteAddr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		s.from = netip.Prefix{}
	}
	s.ctx, s.end = context.WithCancelCause(ctx)
	return s
}

// crowded is the one that has to go before s may come; nil: there is room.
func (q *strangers) crowded(s *stranger) *stranger {
	if own := q.of[s.from]; s.from.IsValid() && own != nil && own.Len() >= q.each {
		return own.Front().Value.(*stranger)
	}
	if q.all.Len() >= q.most {
		return q.oldest()
	}
	return nil
}

// oldest is the one that has been here longest; nil: there is none.
func (q *strangers) oldest() *stranger {
	if e := q.all.Front(); e != nil {
		return e.Value.(*stranger)
	}
	return nil
}

func (q *strangers) add(s *stranger) {
	own := q.of[s.from]
	if own == nil {
		own = list.New()
		q.of[s.from] = own
	}
	s.place, s.own = q.all.PushBack(s), own.PushBack(s)
}

// remove says whether it was one.
func (q *strangers) remove(s *stranger) bool {
	if s.place == nil {
		return false
	}
	own := q.of[s.from]
	q.all.Remove(s.place)
	own.Remove(s.own)
	if own.Len() == 0 {
		delete(q.of, s.from)
	}
	s.place, s.own = nil, nil
	q.bytes -= s.bytes
	s.bytes = 0
	return true
}

// enter takes a place for a connection; nil: there is none.
func (d *Door) enter(nc net.Conn) *stranger {
	s := strangerOf(d.ending, nc)
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.strangers.crowded(s); old != nil {
		d.sendAway(old)
	}
	if len(d.conns) >= d.cfg.MaxConnections {
		old := d.strangers.oldest()
		if old == nil {
			s.end(nil)
			return nil
		}
		d.sendAway(old)
	}
	d.strangers.add(s)
	d.conns[nc] = nil
	return s
}

// sendAway ends a connection for those that come after it. Its place is free at once.
func (d *Door) sendAway(s *stranger) {
	s.end(errCrowded)
	_ = s.nc.Close()
	d.strangers.remove(s)
	delete(d.conns, s.nc)
}

// known says that s is a client from now on. False: it has had to go.
func (d *Door) known(s *stranger) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.strangers.remove(s)
}

// reads says whether a buffer of so many bytes may be taken for the CONNECT of s.
func (d *Door) reads(s *stranger, size int) error {
	more := max(0, size-freeConnect) - s.bytes
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case s.place == nil || more <= 0:
		return nil
	case d.strangers.bytes+more > connectBudget:
		return errConnects
	}
	s.bytes += more
	d.strangers.bytes += more
	return nil
}

func (d *Door) leave(s *stranger) {
	_ = s.nc.Close()
	s.end(nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strangers.remove(s)
	delete(d.conns, s.nc)
}
