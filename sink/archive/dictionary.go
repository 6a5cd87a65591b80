package archive

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/mqttetl/mqttetl"
)

// dictionary is what a Reader remembers of topics or sources, by their ids,
// which SQLite gives from 1 on.
type dictionary struct {
	low  []name         // ids below maxNames
	high map[int64]name // the others, of which so many at most
}

// name is an entry of a dictionary.
type name struct {
	bytes  []byte // nil: none
	text   string
	wanted bool // by the selection
}

// known returns the entry as looked up, nil if it was not. It is valid until the
// next call of enter.
func (d *dictionary) known(id int64) *name {
	if uint64(id) < uint64(len(d.low)) {
		if n := &d.low[id]; n.bytes != nil {
			return n
		}
		return nil
	}
	if n, ok := d.high[id]; ok {
		return &n
	}
	return nil
}

func (d *dictionary) enter(id int64, n name) *name {
	if id < 0 || id >= maxNames {
		if len(d.high) >= maxNames || d.high == nil {
			d.high = map[int64]name{}
		}
		d.high[id] = n
		return &n
	}
	for int64(len(d.low)) <= id {
		d.low = append(d.low, name{})
	}
	d.low[id] = n
	return &d.low[id]
}

// maxProperties is how many different properties a Reader remembers.
const maxProperties = 1024

// lookUp finds an entry of a dictionary by its id.
func (r *Reader) lookUp(d *dictionary, query string, id int64, wanted func([]byte) bool) (*name, error) {
	var b []byte
	if err := r.conn.QueryRowContext(background, query, id).Scan(&b); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("%w: its topic or source %d is missing", mqttetl.ErrDamaged, id)
		}
		return nil, err
	}
	if b == nil { // an empty one
		b = []byte{}
	}
	return d.enter(id, name{b, string(b), wanted(b)}), nil
}

// properties returns the wire form of what the column holds. Devices tend
// to send the same ones again and again.
func (r *Reader) properties(text []byte) (mqttetl.Properties, error) {
	if len(text) == 0 {
		return nil, nil
	}
	if p, ok := r.known[string(text)]; ok {
		return p, nil
	}
	p, err := mqttetl.ParsePropertiesJSON(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mqttetl.ErrDamaged, err)
	}
	if len(text) > 4096 {
		return p, nil
	}
	if r.known == nil || len(r.known) >= maxProperties {
		r.known = map[string]mqttetl.Properties{}
	}
	r.known[string(text)] = p
	return p, nil
}
