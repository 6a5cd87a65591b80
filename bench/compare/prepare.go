package compare

import (
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// prepare makes the stream, the subscribers and the publishers, in this order.
func (t *trial) prepare() error {
	if err := t.enoughFiles(); err != nil {
		return err
	}
	if t.c.Publishers > maxPublishers {
		return fmt.Errorf("%d publishers: the header of a message can tell %d apart", t.c.Publishers, maxPublishers)
	}
	h := t.up[t.c.Servers[0]]
	var err error
	switch {
	case t.c.ID == refBareNATS:
		err = t.add(newBarePublisher(t, h.nats))
	case t.c.ID == refMosquitto:
		err = t.add(newMosquittoPub(t, h.broker))
	case t.c.Protocol == MQTT:
		if err = t.subscribeMQTT(h.broker); err == nil {
			err = t.connectMQTT(h.broker)
		}
	case t.c.Protocol == Bridge:
		err = t.prepareBridge(h, t.up[hostNATS].nats)
	case t.c.Protocol == JetStream && t.c.Subscribers > 0:
		if err = t.createStream(h.nats, t.storage()); err == nil {
			err = t.prepareNATS(h.nats, t.stream())
		}
	default:
		err = t.prepareNATS(h.nats, "")
	}
	return err
}

// add adds a publisher if there is one.
func (t *trial) add(p publisher, err error) error {
	if err == nil {
		t.pubs = append(t.pubs, p)
	}
	return err
}

func (t *trial) storage() jetstream.StorageType {
	if t.c.Storage == "memory" {
		return jetstream.MemoryStorage
	}
	return jetstream.FileStorage
}

func (t *trial) subscribeMQTT(broker brokerAt) error {
	for i := range t.c.Subscribers {
		s, err := login(t.ctx, broker, t.clientID("s", i), &t.wire)
		if err != nil {
			return err
		}
		first, n := t.hears(i)
		sub, err := subscribeMQTT(s, newLedger(t, i, first, n), t.filter(i, t.topicPrefix(), "/", "#"), byte(t.c.QoS), t.fail)
		if err != nil {
			return err
		}
		t.subs = append(t.subs, sub)
	}
	return nil
}

func (t *trial) connectMQTT(broker brokerAt) error {
	for i := range t.c.Publishers {
		s, err := login(t.ctx, broker, t.clientID("p", i), &t.wire)
		if err != nil {
			return err
		}
		t.pubs = append(t.pubs, newMQTTPublisher(t, s, i))
	}
	return nil
}

func (t *trial) clientID(kind string, i int) string {
	return "mqttetl-bench-" + t.run + "-" + strconv.Itoa(int(t.tag)) + kind + strconv.Itoa(i)
}

func (t *trial) prepareNATS(at natsAt, stream string) error {
	if err := t.subscribeNATS(at, stream, t.subjectPrefix()); err != nil {
		return err
	}
	for i := range t.c.Publishers {
		if err := t.add(t.natsPublisher(at, i)); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) natsPublisher(at natsAt, i int) (publisher, error) {
	if t.c.Inflight == 0 {
		return newCorePublisher(t, at, i)
	}
	return newNATSPublisher(t, at, i)
}

func (t *trial) subscribeNATS(at natsAt, stream, prefix string) error {
	for i := range t.c.Subscribers {
		first, n := t.hears(i)
		s, err := subscribeNATS(t, at, stream, t.filter(i, prefix, ".", ">"), newLedger(t, i, first, n), t.fail)
		if err != nil {
			return err
		}
		t.subs = append(t.subs, s)
	}
	return nil
}

// prepareBridge starts the pipeline between the broker and the stream.
func (t *trial) prepareBridge(broker *host, at natsAt) error {
	if err := t.createStream(at, jetstream.FileStorage); err != nil {
		return err
	}
	if err := t.startPipeline(broker.broker, at); err != nil {
		return err
	}
	prefix := t.pipelinePrefix() + "." + topicRoot + "." + t.run + "." + strconv.Itoa(int(t.tag))
	if err := t.subscribeNATS(at, t.stream(), prefix); err != nil {
		return err
	}
	return t.connectMQTT(broker.broker)
}

// pipelinePrefix is what the pipeline puts before the topic.
func (t *trial) pipelinePrefix() string { return t.subjectPrefix() + ".p" }
