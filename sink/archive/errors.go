package archive

import (
	"errors"
	"fmt"
	"io/fs"

	"modernc.org/sqlite"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// ErrEmpty: a file in which no archive has been made yet.
var ErrEmpty = fmt.Errorf("nothing has been archived yet: %w", mqttetl.ErrUnavailable)

// errReplaced: what was read so far belongs to another archive.
var errReplaced = fmt.Errorf("it was replaced or removed while it was read: %w", mqttetl.ErrUnavailable)

// Result codes of SQLite (https://sqlite.org/rescode.html).
const (
	codeError      = 1
	codePerm       = 3
	codeBusy       = 5
	codeLocked     = 6
	codeNoMem      = 7
	codeReadOnly   = 8
	codeIOErr      = 10
	codeCorrupt    = 11
	codeFull       = 13
	codeCantOpen   = 14
	codeProtocol   = 15
	codeTooBig     = 18
	codeConstraint = 19
	codeMismatch   = 20
	codeRange      = 25
	codeNotADB     = 26

	codeIOErrData      = codeIOErr | 32<<8 // checksum of a page
	codeIOErrCorruptFS = codeIOErr | 33<<8
)

// code is the primary result code of an SQLite error, 0 for other errors.
func code(err error) int { return extendedCode(err) & 0xff }

func extendedCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// failed says what failed and of which kind the error is: what passes by itself wraps
// mqttetl.ErrUnavailable, what never does mqttetl.ErrDamaged. SQLite's own
// message and code stay in the chain.
func (a *Archive) failed(doing string, err error) error {
	return failed(a.path, doing, err)
}

func failed(path, doing string, err error) error {
	hint, kind := kindOf(err)
	if kind == nil {
		return fmt.Errorf("archive %s: %s: %w", path, doing, err)
	}
	err = fmt.Errorf("archive %s: %s: %w: %w", path, doing, kind, err)
	if hint == "" {
		return err
	}
	return mqttetl.WithHint(err, hint)
}

func kindOf(err error) (hint string, kind error) {
	for _, known := range []error{mqttetl.ErrForeign, mqttetl.ErrDamaged, mqttetl.ErrUnavailable, store.ErrVersion, store.ErrTable} {
		if errors.Is(err, known) {
			return "", nil
		}
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return "check that the directory exists and may be written to", mqttetl.ErrUnavailable
	}
	if c := extendedCode(err); c == codeIOErrData || c == codeIOErrCorruptFS {
		return hintDamaged, mqttetl.ErrDamaged
	}
	return kindOfCode(code(err))
}

const hintDamaged = "move the file away: a new archive is filled with what the log still holds; sqlite3 FILE .recover reads what is left of the old one"

const hintRows = "something else has written rows into the archive; " + hintDamaged

func kindOfCode(c int) (hint string, kind error) {
	switch c {
	case codeBusy, codeLocked, codeProtocol:
		return "another program is writing to the archive: fuser FILE names it", mqttetl.ErrUnavailable
	case codeFull:
		return "make room on the archive's disk", mqttetl.ErrUnavailable
	case codeReadOnly, codePerm, codeCantOpen:
		return "check owner and mode of the archive and of its directory, and that the disk is mounted read-write", mqttetl.ErrUnavailable
	case codeIOErr:
		return "check the archive's disk: the kernel's log says more", mqttetl.ErrUnavailable
	case codeNoMem:
		return "", mqttetl.ErrUnavailable
	case codeCorrupt, codeNotADB:
		return hintDamaged, mqttetl.ErrDamaged
	case codeConstraint:
		return hintRows, mqttetl.ErrDamaged
	case codeError:
		return "the schema is not the one mqttetl has made; " + hintDamaged, mqttetl.ErrDamaged
	}
	return "", nil
}

// keptOut is the error of rows that did not get into a table because a trigger
// of somebody else has kept them out; nil where there is no trigger. A file with
// one is not damaged.
func (a *Archive) keptOut(table string) error {
	var trigger string
	err := a.conn.QueryRowContext(background, `SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = lower(?)`, table).Scan(&trigger)
	if err != nil { // there is none, or the file cannot be read: the rows say enough
		return nil
	}
	return mqttetl.WithHint(fmt.Errorf("%w: trigger %s keeps rows out of table %s", mqttetl.ErrUnavailable, trigger, table),
		"remove it: drop trigger "+quote(trigger))
}
