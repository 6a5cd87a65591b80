package dial

import (
	"errors"
	"fmt"

	"github.com/mqttetl/mqttetl"
)

type unanswered struct{ error }

func (u unanswered) Unwrap() error { return u.error }

// Unanswered marks err as one before the broker has answered CONNECT: it has
// closed the connection or kept silent.
func Unanswered(err error) error { return unanswered{err} }

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
		return mqttetl.WithHint(fmt.Errorf("MQTT 5: %w; MQTT 3.1.1: %w", err, err311), Silent)
	}
	return err311
}
