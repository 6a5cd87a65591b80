package archive

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// page fetches a page of the table's tree, into the room of the scan.
func (r *Reader) page(number uint32) (page, error) {
	p, err := r.raw(number, &r.tree)
	if err != nil {
		return nil, err
	}
	return page(p), page(p).check()
}

// pages are pages of a file that lie one behind the other.
type pages struct {
	bytes  []byte
	first  uint32
	latest uint32             // that was asked for
	space  func(n int) []byte // where the next ones go; nil: over these
}

// raw fetches a page, without the bytes reserved at its end. Where the file holds
// what the transaction sees it is read as any other, which takes a third of the
// time that SQLite takes.
func (r *Reader) raw(number uint32, run *pages) (p []byte, err error) {
	if r.direct {
		p, err = r.read(number, run)
	} else {
		p, err = r.ask(number)
	}
	if errors.Is(err, io.EOF) || number == 0 {
		return nil, errPage("page %d does not exist", number)
	}
	if err != nil {
		return nil, err
	}
	return p[:r.usable:r.usable], nil
}

// read reads a page from the file, together with those behind it if the page
// before it was asked for last.
func (r *Reader) read(number uint32, run *pages) ([]byte, error) {
	if number < run.first || int64(number-run.first+1)*int64(r.size) > int64(len(run.bytes)) {
		n := 1
		if number == run.latest+1 {
			n = runPages
		}
		var b []byte
		if run.space != nil {
			b = run.space(n * r.size)
		} else {
			b = slices.Grow(run.bytes[:0], n*r.size)[:n*r.size]
		}
		got, err := r.file.ReadAt(b, (int64(number)-1)*int64(r.size))
		run.bytes, run.first = b[:got-got%r.size], number
		if got < r.size {
			return nil, err
		}
	}
	run.latest = number
	at := int64(number-run.first) * int64(r.size)
	return run.bytes[at : at+int64(r.size)], nil
}

// ask fetches a page from SQLite. It asks the driver itself, whose copy of the
// page is the caller's: database/sql would make another.
func (r *Reader) ask(number uint32) (p []byte, err error) {
	err = r.conn.Raw(func(any) error {
		rows, err := r.pages.(driver.StmtQueryContext).QueryContext(background, []driver.NamedValue{{Ordinal: 1, Value: int64(number)}})
		if err != nil {
			return err
		}
		defer rows.Close()
		var row [1]driver.Value
		err = rows.Next(row[:])
		p, _ = row[0].([]byte)
		return err
	})
	if err == nil && (len(p) < 480 || r.size != 0 && len(p) != r.size) {
		err = errPage("page %d has %d bytes", number, len(p))
	}
	return p, err
}

// assemble reads the rest of a row from its overflow pages.
func (r *Reader) assemble(row leafCell) ([]byte, error) {
	whole := make([]byte, 0, row.size)
	whole = append(whole, row.local...)
	var rest pages
	for next := row.overflow; len(whole) < row.size; {
		if next == 0 {
			return nil, errPage("overflow pages end after %d of %d bytes", len(whole), row.size)
		}
		p, err := r.raw(next, &rest)
		if err != nil {
			return nil, err
		}
		next = binary.BigEndian.Uint32(p)
		whole = append(whole, p[4:min(len(p), 4+row.size-len(whole))]...)
	}
	return whole, nil
}
