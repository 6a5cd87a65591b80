package prove

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/eclipse/paho.golang/packets"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// peer is a broker's side of a connection that an attack writes.
type peer struct {
	net.Conn
	in *bufio.Reader
}

// lyingBroker adds a source named name whose broker does on each connection what
// serve says, until it returns or the trial ends; an error of serve is the end of a connection.
func (h *hostile) lyingBroker(name string, serve func(ctx context.Context, p *peer) error) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				select {
				case <-h.begun:
					serve(ctx, &peer{c, bufio.NewReader(c)})
				case <-ctx.Done():
				}
			})
		}
	})
	h.peers = append(h.peers, func() { cancel(); l.Close(); serving.Wait() })
	h.source(name, fmt.Sprintf("url: mqtt://%s\n    version: \"5\"", l.Addr()))
	return nil
}

// source adds a source with these keys, which subscribes to everything below its name.
func (h *hostile) source(name, keys string) {
	h.setup.settings.Sources += fmt.Sprintf("  - name: %s\n    subscribe: [\"%[1]s/#\"]\n    qos: 1\n    %s\n", name, keys)
}

func (h *hostile) endPeers() {
	for _, end := range h.peers {
		end()
	}
	h.peers = nil
}

// greet takes the client in: CONNACK and SUBACK.
func (p *peer) greet() error {
	for {
		in, err := packets.ReadPacket(p.in)
		if err != nil {
			return err
		}
		switch c := in.Content.(type) {
		case *packets.Connect:
			p.Write([]byte{0x20, 3, 0, 0, 0})
		case *packets.Subscribe:
			out := packets.NewControlPacket(packets.SUBACK)
			ack := out.Content.(*packets.Suback)
			ack.PacketID = c.PacketID
			for _, s := range c.Subscriptions {
				ack.Reasons = append(ack.Reasons, s.QoS)
			}
			_, err := out.WriteTo(p)
			return err
		}
	}
}

// publish writes a PUBLISH of QoS 1; properties are as on the wire, without their length.
func (p *peer) publish(id uint16, topic string, properties, payload []byte) error {
	m := wire.Message[string]{Flags: 1 << 1, Topic: topic, ID: id, Props: properties, Payload: payload}
	_, err := p.Write(m.Append(nil, true))
	return err
}

// answers reads what the client writes, pings included, until the connection ends.
func (p *peer) answers() error {
	for {
		in, err := packets.ReadPacket(p.in)
		if err != nil {
			return err
		}
		if in.Type == packets.PINGREQ {
			p.Write([]byte{0xd0, 0})
		}
	}
}
