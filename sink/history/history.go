// Package history reads what was recorded, from the archive and, after it,
// from the log, as one sequence.
//
// Its invariant: between the first record and the last one that Open has fixed,
// each record that still exists anywhere is returned once, in the order of Seq,
// however far the service moves records from the log to the archive meanwhile.
// Nothing it does holds up the service: the archive is read in snapshots of a
// few milliseconds, the log in transactions of one copy.
package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// Places say where the records are.
type Places struct {
	Archive string // path of the archive, "" for none
	LogDir  string // directory of the log, "" for none
}

// History is an archive and a log, open for reading. It belongs to one
// goroutine.
type History struct {
	archive *archive.Reader // nil: there is none yet
	log     *wal.Reader     // nil: there is none
	logID   string

	archived    mqttetl.Seq // the archive's cursor as last read
	first, last mqttetl.Seq // of the log, as last read
}

// Open opens what there is of the places; one of the two must be there. An
// archive that belongs to another log is an error that wraps
// mqttetl.ErrForeign.
func Open(p Places) (h *History, err error) {
	h = &History{}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	absent := errors.New("neither archive nor log is configured")
	if p.Archive != "" {
		h.archive, err = archive.OpenReader(p.Archive)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, archive.ErrEmpty) {
			return h, err
		}
		absent = err
	}
	if p.LogDir != "" {
		h.log, err = wal.OpenReader(p.LogDir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return h, err
		}
		absent = errors.Join(absent, err)
	}
	if h.archive == nil && h.log == nil {
		if errors.Is(absent, archive.ErrEmpty) { // which says so
			return h, absent
		}
		return h, fmt.Errorf("nothing has been recorded: %w: %w", mqttetl.ErrUnavailable, absent)
	}
	if err = h.identify(p); err != nil {
		return h, err
	}
	return h, h.Refresh()
}

// identify holds archive and log to belong together.
func (h *History) identify(p Places) error {
	if h.log != nil {
		h.logID = h.log.ID()
	}
	if h.archive == nil {
		return nil
	}
	if h.log != nil && h.archive.LogID() != h.logID {
		return mqttetl.WithHint(fmt.Errorf("archive %s: %w: filled from log %s, the log in %s is %s", p.Archive, mqttetl.ErrForeign, h.archive.LogID(), p.LogDir, h.logID),
			"name the archive of this log, or read the archive alone")
	}
	h.logID = h.archive.LogID()
	return nil
}

// LogID is the id of the log that recorded all this.
func (h *History) LogID() string { return h.logID }

// Last is the last record there was at the last Refresh, 0 if there was none.
func (h *History) Last() mqttetl.Seq { return max(h.archived, h.last) }

// Gap are the records between an archive and a log that begins after it: the
// archive was put back from an older copy, and they are in neither. first is 0
// where there are none.
func (h *History) Gap() (first, last mqttetl.Seq, err error) {
	if h.log == nil || h.archived == 0 || h.first <= h.archived+1 {
		return 0, 0, nil
	}
	now, err := h.archive.Cursor() // what was trimmed meanwhile has reached it
	if err != nil || h.first <= now+1 {
		return 0, 0, err
	}
	return now + 1, h.first - 1, nil
}

// Refresh looks again how far archive and log have come.
func (h *History) Refresh() (err error) {
	// The archive first: it lags the log, and what the log trims after
	// this has reached the archive, whose cursor is then read again.
	if h.archive != nil {
		if h.archived, err = h.archive.Cursor(); err != nil {
			return err
		}
	}
	if h.log != nil {
		h.first, h.last, err = h.log.Bounds()
	}
	return err
}

// Close closes archive and log.
func (h *History) Close() error {
	var err error
	if h.archive != nil {
		err = h.archive.Close()
	}
	if h.log != nil {
		h.log.Close()
	}
	return err
}

// Select begins to read the records of the selection that exist now. Only one
// Cursor of a History is used at a time.
func (h *History) Select(sel mqttetl.Selection) *Cursor {
	to := h.Last()
	if sel.To != 0 {
		to = min(to, sel.To)
	}
	return &Cursor{h: h, sel: sel, next: max(1, sel.From), to: to, left: sel.Limit}
}

// Cursor is a position in a selection.
type Cursor struct {
	h    *History
	sel  mqttetl.Selection
	next mqttetl.Seq // the first record that has not been considered
	to   mqttetl.Seq
	left uint64 // of sel.Limit

	rooms []archive.Room // used in turn; none: the records belong to the caller
	turn  int
}

// Reuse has Next use memory again: what it returns is valid until Next has been
// called so many times more. It is called before Next.
func (c *Cursor) Reuse(calls int) *Cursor {
	c.rooms = make([]archive.Room, calls)
	return c
}

// room is where the next records go.
func (c *Cursor) room() *archive.Room {
	if len(c.rooms) == 0 {
		return nil
	}
	return &c.rooms[c.turn%len(c.rooms)]
}

// Bounds are the first and the last record that may still come; none if the
// first is greater.
func (c *Cursor) Bounds() (first, last mqttetl.Seq) { return c.next, c.to }

// Next returns the next records, at least one, and io.EOF at the end. They
// belong to the caller, but for Reuse.
func (c *Cursor) Next(ctx context.Context) ([]mqttetl.Record, error) {
	c.turn++
	for c.next <= c.to && (c.sel.Limit == 0 || c.left > 0) {
		recs, err := c.consider(ctx)
		if err != nil {
			return nil, err
		}
		if c.sel.Limit > 0 {
			recs = recs[:min(uint64(len(recs)), c.left)]
			c.left -= uint64(len(recs))
		}
		if len(recs) > 0 {
			return recs, nil
		}
	}
	return nil, io.EOF
}

// consider reads the next records and returns those that are selected.
func (c *Cursor) consider(ctx context.Context) ([]mqttetl.Record, error) {
	h := c.h
	if h.archive != nil && c.next <= h.archived {
		recs, through, err := h.archive.Scan(ctx, &c.sel, c.next, min(c.to, h.archived), c.room())
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		c.next = max(c.next, through+1)
		return recs, nil
	}
	if h.log == nil || c.next > h.last {
		c.next = c.to + 1
		return nil, nil
	}
	if c.next < h.first {
		return nil, c.missing()
	}
	return c.fromLog(ctx)
}

// missing continues where the log begins, unless the archive has what is before:
// the log was looked at first, so what it had trimmed by then is there by now.
func (c *Cursor) missing() (err error) {
	h := c.h
	if h.archive != nil {
		if h.archived, err = h.archive.Cursor(); err != nil {
			return err
		}
	}
	if h.archived < c.next { // trimmed before there was an archive, or see Gap
		c.next = h.first
	}
	return nil
}

// fromLog reads records that are not archived yet.
func (c *Cursor) fromLog(ctx context.Context) (selected []mqttetl.Record, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	recs, err := c.h.log.Behind(c.next - 1)
	if errors.Is(err, mqttetl.ErrTrimmed) {
		return nil, c.h.Refresh()
	}
	if err != nil {
		return nil, err
	}
	for i := range recs {
		r := &recs[i]
		if r.Seq > c.to {
			break
		}
		c.next = r.Seq + 1
		if c.sel.Matches(r) {
			selected = append(selected, r.Clone())
		}
	}
	return selected, nil
}
