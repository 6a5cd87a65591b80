package main

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// codedError is an error with an exit code of its own.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// quietError is an error that its user does not want to read (--quiet).
type quietError struct{ error }

func (e quietError) Unwrap() error { return e.error }

var errTimedOut = codedError{errors.New("timed out"), exitTimedOut}

// natsCode gives a login that NATS has refused its exit code.
func natsCode(err error) error {
	for _, refused := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, refused) {
			return codedError{mqttetl.WithHint(err, "NATS takes user and password in the URL, nats://user:password@host, or credentials by --creds"), exitLogin}
		}
	}
	return err
}

// exitProtocol is mosquitto's exit code where a broker breaks the protocol.
const exitProtocol = 2

// codeOf gives a refused CONNECT its exit code: that of a refused login or, as
// mosquitto_sub does, the reason code of MQTT 5. The return codes of 3.1.1 are
// too small to be told from other exit codes.
func codeOf(err error) error {
	var r *client.Refusal
	if errors.As(err, new(*wire.Error)) {
		return codedError{err, exitProtocol}
	}
	if !errors.As(err, &r) || r.Packet != "CONNACK" {
		return err
	}
	switch {
	case r.Login():
		return codedError{fmt.Errorf("connect: %w", err), exitLogin}
	case !r.V311:
		return codedError{fmt.Errorf("connect: %w", err), int(r.Code)}
	}
	return fmt.Errorf("connect: %w", err)
}
