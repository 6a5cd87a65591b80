package dial

import (
	"errors"
	"fmt"
	"net"

	"github.com/mqttetl/mqttetl"
)

type unanswered struct{ error }

func (u unanswered) Unwrap() error { return u.error }

// Unanswered marks err as one before the broker has answered CONNECT: it has
// closed conn or kept silent. If it has ended TLS with an alert, that is an answer.
func Unanswered(err error, conn net.Conn) error {
	if Alert(err) {
		return err
	}
	_, secure := conn.(stream)
	return unanswered{mqttetl.WithHint(err, Silence(secure))}
}

func isUnanswered(err error) bool { return errors.As(err, new(unanswered)) }

// EitherVersion connects with MQTT 5, and with 3.1.1 where the broker refuses
// version 5 or, as old ones do, does not answer it. refuses5 says whether an
// error of connect is such a refusal.
func EitherVersion(connect func(v5 bool) error, refuses5 func(error) bool) error {
	err := connect(true)
	if err == nil || !refuses5(err) && !isUnanswered(err) {
		return err
	}
	err311 := connect(false)
	if isUnanswered(err) && isUnanswered(err311) {
		return fmt.Errorf("MQTT 5: %w; MQTT 3.1.1: %w", err, err311)
	}
	return err311
}
