package archive

import "github.com/mqttetl/mqttetl"

// Room is memory that Scan uses again and again, which spares clearing it and
// the collector's work. What Scan has put into a Room is valid until it gets the
// same Room again. The zero Room is ready.
type Room struct {
	runs [][]byte // of pages
	used int
	recs []mqttetl.Record
}

// begin forgets what is in the room.
func (m *Room) begin() []mqttetl.Record {
	m.used = 0
	if m.recs == nil {
		m.recs = make([]mqttetl.Record, 0, 256)
	}
	return m.recs[:0]
}

// run returns n bytes that nobody uses.
func (m *Room) run(n int) []byte {
	if m.used == len(m.runs) {
		m.runs = append(m.runs, nil)
	}
	p := &m.runs[m.used]
	m.used++
	if cap(*p) < n {
		*p = make([]byte, n)
	}
	return (*p)[:n]
}
