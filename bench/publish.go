package main

import (
	"errors"
	"net"
)

// publishing is what the publisher to a broker is to do.
type publishing struct {
	Addr     string
	Messages int
	Payload  int
	Window   int
	Rate     int // messages a second in open loop; 0: as fast as the window allows
}

// publish is the role of a publisher that is faster than any broker: packets
// that stand ready, in large writes. It speaks 3.1.1, in which no broker bounds
// what is in flight towards it.
func publish(l *link, p publishing) error {
	conn, err := net.Dial("tcp", p.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := newInput(conn, 64<<10)
	if err := login(conn, in, "bench-publisher", 4, 0); err != nil {
		return err
	}
	d := newDelivery(conn, in, newFrames(p.Payload, 4), p.Messages, p.Window)
	d.bundle = max(p.Window/4, 1)
	if err := errors.Join(l.say(subscribed{4, p.Window}), l.awaitGo()); err != nil {
		return err
	}
	done, err := run(d, p.Rate)
	if err != nil {
		return err
	}
	return l.done(done.deliveryTimes)
}
