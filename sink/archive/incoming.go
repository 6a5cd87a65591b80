package archive

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"sync"
	"unicode/utf8"
	"unsafe"

	"modernc.org/sqlite/vtab"

	"github.com/mqttetl/mqttetl"
)

// incoming is a virtual table over records in Go memory. An INSERT … SELECT
// from it is the cheapest way into SQLite that the driver offers: no statement,
// no binding and no result a row.
//
// The rowid is the record's Seq; the other columns are the values of messages.
type incoming struct {
	records []mqttetl.Record
	keys    []keys // of the same index
	json    []byte // scratch for properties
	bare    bool   // without payload and properties, which SQLite has refused
	cells
}

func (in *incoming) declaration() string { return incomingColumns }
func (in *incoming) rows() int           { return len(in.records) }
func (in *incoming) rowid(row int) int64 { return int64(in.records[row].Seq) }

// keys are the row ids that stand for a record's topic and source.
type keys struct{ topic, source driver.Value }

// reset makes the records the content of the table.
func (in *incoming) reset(records []mqttetl.Record) {
	in.records, in.keys = records, in.keys[:0]
	in.text.set("")
	in.blob.set(nil)
	if cap(in.json) > 1<<20 {
		in.json = nil
	}
}

// cells are those that a table's values go through.
type cells struct {
	time  cell[int64]
	float cell[float64]
	text  cell[string]
	blob  cell[[]byte]
}

func newCells() cells {
	return cells{newCell[int64](), newCell[float64](), newCell[string](), newCell[[]byte]()}
}

// A cell is a driver.Value that is changed in place: making an interface of an
// int64, string or []byte allocates. Without cells a row costs two allocations,
// of its time and its payload, and 5 to 10 % more user time: they are what keeps
// the way from the log into SQLite free of allocations a row. The value may be
// used until the next set; SQLite's driver copies it at once.
type cell[T int64 | float64 | string | []byte] struct {
	v     *T
	value driver.Value // its data word points at *v
}

func newCell[T int64 | float64 | string | []byte]() cell[T] {
	c := cell[T]{v: new(T)}
	c.value = *c.v
	// An interface is a type word and a pointer to the value (for types that
	// are not pointers themselves, which T's are not).
	(*[2]unsafe.Pointer)(unsafe.Pointer(&c.value))[1] = unsafe.Pointer(c.v)
	return c
}

func (c *cell[T]) set(v T) driver.Value {
	*c.v = v
	return c.value
}

// The columns of the virtual table.
const incomingColumns = `CREATE TABLE incoming(time, topic_id, source_id, flags, payload, properties)`

const (
	columnTime = iota
	columnTopic
	columnSource
	columnFlags
	columnPayload
	columnProperties
)

func (in *incoming) column(row, col int) driver.Value {
	r := &in.records[row]
	switch col {
	case columnTime:
		return in.time.set(r.Time)
	case columnTopic:
		return in.keys[row].topic
	case columnSource:
		return in.keys[row].source
	case columnFlags:
		return int64(r.Flags) // below 256: no allocation
	case columnPayload:
		return in.payload(r.Payload)
	case columnProperties:
		return in.properties(r.Properties)
	}
	return nil
}

// payload is TEXT or BLOB, as the contract says.
func (in *incoming) payload(p []byte) driver.Value {
	if in.bare {
		p = nil
	}
	if bytes.IndexByte(p, 0) < 0 && utf8.Valid(p) {
		return in.text.set(bytesString(p))
	}
	return in.blob.set(p)
}

func (in *incoming) properties(p mqttetl.Properties) driver.Value {
	if len(p) == 0 || len(p) > rowProperties || in.bare {
		return nil
	}
	in.json = p.AppendJSON(in.json[:0])
	return in.text.set(bytesString(in.json))
}

// bytesString and stringBytes share the bytes instead of copying them. Neither
// result outlives the call it is made for, nor is it written to.
func bytesString(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }
func stringBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// moduleName is the name of the virtual table module.
const moduleName = "mqttetl_incoming"

// A source is the content of a virtual table, in Go memory.
type source interface {
	declaration() string // CREATE TABLE …
	rows() int
	rowid(row int) int64
	column(row, col int) driver.Value // valid until the next call
}

// tables are the virtual tables of the open archives: the module is registered
// once a process, and its argument says whose table it is.
var tables = struct {
	sync.Mutex
	last   uint64
	byName map[string]source
}{byName: map[string]source{}}

// registerModule must be called before a connection is opened that uses it.
var registerModule = sync.OnceValue(func() error {
	return vtab.RegisterModule(nil, moduleName, module{})
})

// offer makes the source known to the module, under the name it returns.
func offer(s source) string {
	tables.Lock()
	defer tables.Unlock()
	tables.last++
	name := fmt.Sprint(tables.last)
	tables.byName[name] = s
	return name
}

// withdraw is the end of offer. The name may be empty.
func withdraw(name string) {
	tables.Lock()
	defer tables.Unlock()
	delete(tables.byName, name)
}

// module finds the table named by its only argument.
type module struct{}

func (module) Create(c vtab.Context, args []string) (vtab.Table, error) {
	if len(args) != 4 { // module, database, table, argument
		return nil, fmt.Errorf("%s takes one argument", moduleName)
	}
	tables.Lock()
	s := tables.byName[args[3]]
	tables.Unlock()
	if s == nil {
		return nil, fmt.Errorf("%s: no open archive %q", moduleName, args[3])
	}
	return table{s}, c.Declare(s.declaration())
}

func (m module) Connect(c vtab.Context, args []string) (vtab.Table, error) {
	return m.Create(c, args)
}

type table struct{ source }

func (t table) BestIndex(*vtab.IndexInfo) error { return nil }
func (t table) Open() (vtab.Cursor, error)      { return &cursor{source: t.source}, nil }
func (t table) Disconnect() error               { return nil }
func (t table) Destroy() error                  { return nil }

// cursor walks over the rows in their order.
type cursor struct {
	source
	row int
}

func (c *cursor) Filter(int, string, []vtab.Value) error { c.row = 0; return nil }
func (c *cursor) Next() error                            { c.row++; return nil }
func (c *cursor) Eof() bool                              { return c.row >= c.rows() }
func (c *cursor) Close() error                           { return nil }
func (c *cursor) Rowid() (int64, error)                  { return c.rowid(c.row), nil }
func (c *cursor) Column(col int) (vtab.Value, error)     { return c.column(c.row, col), nil }
