package ingest

import "github.com/mqttetl/mqttetl/internal/wire"

// Control packet types (MQTT 5 §2.1.2, table 2-1).
const (
	typeConnack    = wire.Connack
	typePublish    = wire.Publish
	typePuback     = wire.Puback
	typePubrec     = wire.Pubrec
	typePubrel     = wire.Pubrel
	typePubcomp    = wire.Pubcomp
	typeSuback     = wire.Suback
	typeUnsuback   = wire.Unsuback
	typePingreq    = wire.Pingreq
	typePingresp   = wire.Pingresp
	typeDisconnect = wire.Disconnect
	typeAuth       = wire.Auth
)

// reasonPacketNotFound is the code of a PUBCOMP (MQTT 5 §3.7.2.1).
const reasonPacketNotFound = 0x92

// maxProperties bounds the properties of a PUBLISH, in bytes. They are headers
// for people and programs: everything after the log makes them several times as
// long, as JSON or as headers of NATS.
const maxProperties = 1 << 20

// limits are what the CONNECT of a source says.
func (c *conn) limits() wire.Limits { return wire.Limits{V5: c.v5, Properties: maxProperties} }

// checkFirst is wire.CheckFirst for a connection that publishes nothing.
func checkFirst(first byte, v5 bool) error {
	switch kind := first >> 4; kind {
	case typePuback, typePubrec, typePubcomp:
		return wire.Violation("a packet of type %d acknowledges what was never published", kind)
	}
	return wire.CheckFirst(first, v5)
}
