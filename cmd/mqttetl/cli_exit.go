package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/replay"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/visible"
	"github.com/mqttetl/mqttetl/internal/wire"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Exit codes, where there is one of that meaning from sysexits.h.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitTimedOut    = 27 // -W, as mosquitto_sub
	exitDamaged     = 65 // EX_DATAERR: damaged data, or stores that do not belong together
	exitUnreachable = 69 // EX_UNAVAILABLE: broker, server or service cannot be reached
	exitIO          = 74 // EX_IOERR: files, directories, ports
	exitLogin       = 77 // EX_NOPERM: the broker refuses the login
	exitConfig      = 78 // EX_CONFIG
)

// usageError is a command line that cannot be run.
type usageError struct {
	error
	cmd *cobra.Command
}

func (e usageError) Unwrap() error { return e.error }

// exitCode is the exit code that err means.
func exitCode(err error) int {
	var usage usageError
	var conf config.Error
	var child childError
	var coded codedError
	var path *fs.PathError
	var errno syscall.Errno
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, dial.ErrNotTLS):
		return exitUsage
	case errors.As(err, &conf), errors.Is(err, store.ErrTable):
		return exitConfig
	case errors.As(err, &child):
		return child.code
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, mqttetl.ErrDamaged), errors.Is(err, mqttetl.ErrForeign), errors.Is(err, store.ErrVersion):
		return exitDamaged
	case errors.Is(err, replay.ErrLogin):
		return exitLogin
	case errors.Is(err, mqttetl.ErrUnavailable):
		return exitUnreachable
	case errors.Is(err, mqttetl.ErrLocked), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission),
		errors.As(err, &path), errors.As(err, &errno):
		return exitIO
	}
	return exitFailed
}

// printError writes err as one line and a line for what can be done about it.
// Problems of a configuration are written as file:line:col: message, one a line, as
// editors and CI systems read them.
func printError(w io.Writer, err error) {
	var usage usageError
	var problems config.Problems
	var quiet quietError
	switch {
	case errors.As(err, &quiet):
		return
	case errors.As(err, &problems):
		for _, p := range problems {
			fmt.Fprintln(w, visible.Line(p.String()))
		}
	case errors.As(err, &usage):
		fmt.Fprintf(w, "mqttetl: %s\nUsage: %s\n", oneLine(err), usage.cmd.UseLine())
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(w, "mqttetl: interrupted")
	default:
		fmt.Fprintf(w, "mqttetl: %s\n", oneLine(err))
	}
	if hint := mqttetl.Hint(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", visible.Line(hint))
	}
}

// oneLine is an error on one line that a terminal does not obey.
func oneLine(err error) string { return visible.OneLine(err) }

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
