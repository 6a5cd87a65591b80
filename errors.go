package mqttetl

import "errors"

// Conditions that a caller tells apart with errors.Is. The error that wraps
// one says which file, address or number it is about.
var (
	// ErrFull: the log may not grow, because its disk or its max_size is
	// exhausted. It passes by itself once there is room.
	ErrFull = errors.New("log is full")
	// ErrClosed: the store was closed while the call waited. Nothing that was
	// handed over with the call may be considered stored.
	ErrClosed = errors.New("closed")
	// ErrLocked: another process has the store open for writing.
	ErrLocked = errors.New("in use by another process")
	// ErrDamaged: stored bytes are not what was written. Never passes by itself.
	ErrDamaged = errors.New("damaged")
	// ErrForeign: two stores that do not belong together, such as an archive
	// that was filled from another log. Never passes by itself.
	ErrForeign = errors.New("belongs to another log")
	// ErrTrimmed: the records asked for are no longer in the log.
	ErrTrimmed = errors.New("no longer in the log")
	// ErrUnavailable: a store or server cannot be used now and may come back.
	ErrUnavailable = errors.New("unavailable")
)

// hinted carries what the operator can do beside what went wrong.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// WithHint attaches to err one sentence that tells the operator what to do.
// The command prints it on a line of its own.
func WithHint(err error, hint string) error { return hinted{err, hint} }

// Hint returns the hint nearest to the outside of err's chain, or "".
func Hint(err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}
