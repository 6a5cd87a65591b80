package compare

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// fileDurability is what an acknowledgement of a stream in files is worth.
func fileDurability(v *varz) Durability {
	c := v.JetStream.Config
	switch {
	case c == nil:
		return Durability{Unknown, "unknown whether synced", "/varz: no JetStream"}
	case c.SyncAlways:
		return Durability{Synced, "synced before the acknowledgement", "/varz sync_always"}
	case c.SyncInterval > 0:
		return Durability{Written, fmt.Sprintf("written, not synced (sync_interval %s)", short(c.SyncInterval)), "/varz sync_interval"}
	case before210(v.Version):
		return Durability{Written, "written, not synced (sync_interval 2m)", "/varz version " + v.Version + ", in which it is fixed"}
	}
	return Durability{Unknown, "unknown whether synced", "/varz: no sync_interval"}
}

// short is a duration without the zeros at its end.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// before210 tells whether a version of nats-server cannot be told to sync.
func before210(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return err1 == nil && err2 == nil && (a < 2 || a == 2 && b < 10)
}

// durability is what the acknowledgement of a case is worth.
func (w *world) durability(c *Case) Durability {
	first := w.up[c.Servers[0]]
	switch {
	case strings.HasPrefix(c.ID, nullRoot):
		return Durability{Instrument, "null server, nothing is stored", "protocol"}
	case strings.HasPrefix(c.ID, referenceRoot):
		return Durability{Instrument, "publishing only", "protocol"}
	case c.Protocol == NATSCore, c.Protocol == MQTT && c.QoS == 0:
		return Durability{Unacknowledged, "not acknowledged", "protocol"}
	case first == nil:
		return Durability{Unknown, "unknown", "the server is not there"}
	case c.Protocol == Bridge:
		stream := "unknown"
		if h := w.up[hostNATS]; h != nil {
			stream = h.file.Text
		}
		return Durability{Pipeline, "in the log synced before it is passed on, in the stream " + stream, "configuration"}
	case c.Protocol == MQTT:
		return brokerDurability(first)
	case c.Storage == "memory":
		return Durability{InMemory, "acknowledged in memory", "configuration"}
	}
	return first.file
}

// brokerDurability is what PUBACK and PUBCOMP of a broker are worth. Mosquitto
// writes its database now and then, not for a message.
func brokerDurability(h *host) Durability {
	d := Durability{InMemory, "acknowledged in memory", "configuration"}
	switch {
	case h.Kind != kindBroker:
	case strings.HasPrefix(h.Version, "mosquitto version 1."), strings.HasPrefix(h.Version, "mosquitto version 2.0."):
		d.From = "$SYS/broker/version: " + h.Version
	default:
		d = Durability{Unknown, "unknown whether stored", "the broker does not tell"}
	}
	return d
}
