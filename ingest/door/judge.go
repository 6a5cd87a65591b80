package door

import (
	"bytes"
	"net"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/door/access"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// Plain implements session.Judge: the topic was allowed by the rights that are in force.
func (c *client) Plain(topic []byte) bool {
	return c.topics[string(topic)] && (c.door.acl == nil || c.door.acl.Is(c.acl))
}

// Judge implements session.Judge.
func (c *client) Judge(first byte, size int, h *wire.Head) (code byte, err error) {
	if h.Alias != 0 {
		if err := c.aliases.resolve(h); err != nil {
			return 0, err
		}
	}
	if err := h.CheckOfClient(); err != nil {
		return 0, err
	}
	if h.Topic[0] != '$' && c.may(h.Topic) {
		return 0, nil
	}
	c.door.denyMessage(c.user, c.id, c.nc.RemoteAddr(), h.Topic)
	if !c.v5 && !c.door.cfg.AcknowledgeDenied && first&6 != 0 && h.Topic[0] != '$' { // bridges of Mosquitto say $SYS/broker/connection/…
		return 0, errDenied
	}
	return wire.CodeNotAuthorized, nil
}

// may says whether the client may publish to a topic, and remembers it.
func (c *client) may(topic []byte) bool {
	if c.door.acl != nil && !c.door.acl.Is(c.acl) {
		c.acl, c.rights = c.door.rights(c.user, c.id)
		c.topics = nil
	}
	if c.topics[string(topic)] {
		return true
	}
	if c.rights != nil && !c.rights.May(access.Write, topic) {
		return false
	}
	if len(topic) < longTopic {
		if c.topics == nil || len(c.topics) >= mostTopics {
			c.topics = map[string]bool{}
		}
		c.topics[string(topic)] = true
	}
	return true
}

// denyMessage counts, and says once in a while, that a message was not recorded.
func (d *Door) denyMessage(user, clientID string, who net.Addr, topic []byte) {
	d.cfg.Metrics.denied.WithLabelValues(d.cfg.Name).Inc()
	if n := d.denied.Count(); n > 0 {
		address := ""
		if who != nil {
			address = who.String()
		}
		d.logger.Warn("a client may not publish to a topic; its messages are not recorded",
			"client_id", clientID, "user", user, "address", address, "topic", string(topic), "messages", n)
	}
}

// aliases are the topics that a client has given numbers (MQTT 5 §3.3.2.3.4).
type aliases struct {
	topics [mostAliases + 1][]byte
	size   int
}

// resolve puts the topic in the place of its alias, which means nothing to anyone else.
func (a *aliases) resolve(h *wire.Head) error {
	known := a.topics[h.Alias]
	switch {
	case len(h.Topic) == 0 && known == nil:
		return wire.Violation("topic alias %d before its topic", h.Alias)
	case len(h.Topic) == 0:
		h.Topic = known
	default:
		if a.size += len(h.Topic) - len(known); a.size > aliasBytes {
			return &wire.Error{Code: wire.CodeQuota, What: "topic aliases of too many bytes"}
		}
		a.topics[h.Alias] = bytes.Clone(h.Topic)
	}
	var props mqttetl.Properties
	for p := range h.Props.All() {
		if p.ID != mqttetl.TopicAlias {
			props = p.Append(props)
		}
	}
	h.Props = props
	return nil
}
