package client

import (
	"fmt"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// Refusal is a broker's answer that it will not do what was asked.
type Refusal struct {
	Packet string // CONNACK, SUBACK, PUBACK, PUBREC or DISCONNECT
	Code   byte   // reason code of MQTT 5, or of 3.1.1's CONNACK: see V311
	V311   bool   // Code is a return code of 3.1.1 (§3.2.2.3)
	Reason string // in the broker's own words, if it gave any
	About  string // the topic or filter concerned, or empty
}

func (r *Refusal) Error() string {
	meaning := wire.CodeText(r.Code)
	if r.V311 {
		meaning = wire.CodeText311(r.Code)
	}
	s := fmt.Sprintf("broker's %s: %s (0x%02x)", r.Packet, meaning, r.Code)
	if r.About != "" {
		s = r.About + ": " + s
	}
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	return s
}

// Login says that the broker does not accept who we are.
func (r *Refusal) Login() bool { return r.Packet == "CONNACK" && wire.RefusesLogin(r.Code, r.V311) }

// Version says that the broker does not speak the version of MQTT asked for.
func (r *Refusal) Version() bool { return r.Packet == "CONNACK" && wire.RefusesVersion(r.Code, r.V311) }

// TakenOver says that another client has connected with the same client id.
func (r *Refusal) TakenOver() bool { return r.Packet == "DISCONNECT" && r.Code == wire.CodeTakenOver }

// Unwrap says of a broker that may serve later that it is unavailable.
func (r *Refusal) Unwrap() error {
	later := r.Code == wire.CodeUnavailable || r.Code == wire.CodeBusy || r.Code == wire.CodeShuttingDown
	if r.Packet != "SUBACK" && (r.V311 && r.Code == 3 || !r.V311 && later) {
		return mqttetl.ErrUnavailable
	}
	return nil
}

// hint adds what can be done about a refusal.
func (r *Refusal) hint() error {
	switch {
	case r.Login():
		return mqttetl.WithHint(r, "check user name, password and client certificate, and the broker's access rules")
	case r.Version():
		return mqttetl.WithHint(r, "-V auto takes the version that the broker speaks")
	case r.TakenOver():
		return mqttetl.WithHint(r, "every client of a broker needs a client id of its own; -i sets it")
	}
	return r
}
