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

// maxControlFrame bounds the frames that are passed to the control plane whole.
const maxControlFrame = 256 << 10

// limits are what the CONNECT of a source says.
func (c *conn) limits() wire.Limits { return wire.Limits{V5: c.v5} }

// checkFirst is wire.CheckFirst for a connection that publishes nothing.
func checkFirst(first byte, v5 bool) error {
	switch kind := first >> 4; kind {
	case typePuback, typePubrec, typePubcomp:
		return wire.Violation("a packet of type %d acknowledges what was never published", kind)
	}
	return wire.CheckFirst(first, v5)
}
