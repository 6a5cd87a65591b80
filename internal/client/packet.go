package client

import (
	"fmt"
	"strings"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// Versions of MQTT.
const (
	Version31  = wire.Version31
	Version311 = wire.Version311
	Version5   = wire.Version5
)

// Properties are those of MQTT 5 that a client sets.
type Properties = wire.Properties

// Message is a message to publish, or a will.
type Message struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Properties Properties // MQTT 5 only
}

// Check says whether the message can be sent at all.
func (m *Message) Check() error {
	if err := mqttetl.CheckTopic([]byte(m.Topic)); err != nil {
		return err
	}
	if m.QoS > 2 {
		return fmt.Errorf("QoS %d is none of 0, 1 and 2", m.QoS)
	}
	if len(m.Payload) > wire.MaxRemaining-2-len(m.Topic)-2-4-len(m.Properties) {
		return fmt.Errorf("a payload of %d bytes: MQTT ends at 256 MiB", len(m.Payload))
	}
	return nil
}

// CheckFilter checks a topic filter, which may be one of a shared subscription
// (MQTT 5 §4.8.2).
func CheckFilter(f string) error {
	if _, err := mqttetl.ParseFilter(f); err != nil {
		return err
	}
	if group, ok := strings.CutPrefix(f, "$share/"); ok {
		if name, filter, ok := strings.Cut(group, "/"); !ok || filter == "" || mqttetl.CheckShare(name) != nil {
			return fmt.Errorf("topic filter %q is not $share/<group>/<filter> (MQTT 5 §4.8.2)", f)
		}
	}
	return nil
}

// login is what CONNECT says.
func (o *Options) login() *wire.Login {
	l := &wire.Login{
		Version: o.Version, ClientID: o.ClientID, Username: o.Username, Password: o.Password,
		CleanStart: o.CleanStart, KeepAlive: o.KeepAlive, Props: o.Properties,
	}
	if w := o.Will; w != nil {
		l.Will = &wire.WillMessage{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, Props: w.Properties}
	}
	return l
}

// packet is the PUBLISH of m.
func (m *Message) packet(id uint16) wire.Message[string] {
	flags := m.QoS << 1
	if m.Retain {
		flags |= 1
	}
	return wire.Message[string]{Flags: flags, Topic: m.Topic, ID: id, Props: m.Properties, Payload: m.Payload}
}
