// Package store holds the words that those who fill an archive share with the
// archives themselves: typed tables and their rows, readings, births, and what
// else is kept beside the messages.
//
// An archive keeps all of a Made in the transaction of the records that it was
// made of, so that what is made of a record is there exactly as often as the record.
package store

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// Conditions of an archive that a caller tells apart with errors.Is.
var (
	// ErrTable: a typed table is there with columns of other types, or was not made
	// for routes. The configuration must change, or the table.
	ErrTable = errors.New("the table does not fit its routes")
	// ErrVersion: the archive was made by a newer version of this program.
	ErrVersion = errors.New("made by a newer version of mqttetl")
	// ErrChanged: another program has changed the schema since the archive was
	// opened, as a rerun does that replaces a typed table. Nothing was written; open
	// the archive again, and read again what Births has said.
	ErrChanged = errors.New("the schema has been changed")
)

// Options say what an archive keeps beside the messages. What is missing there is
// added when it is opened; nothing is ever removed.
type Options struct {
	Tables   []Table // typed tables, for Made.Rows
	Readings bool    // the numbers of all messages, for Made.Readings
	Latest   bool    // the last message of each topic
	Births   bool    // what Sparkplug routes remember, for Made.Births
	Again    bool    // it was there before: a directory that is missing now is not made anew
}

// Made is what routes have made of records.
type Made struct {
	Rows     []Rows // of the table of the same index in Options.Tables
	Readings []Reading
	Births   []Birth
	Letters  []mqttetl.DeadLetter // one that is there already, by record and stage, stays as it is
}

// State is how an archive is at one moment.
type State struct {
	Shared   bool                 // another program needs turns at writing: transactions are short, with gaps between
	Room     int64                // bytes that can still be written
	SetAside []mqttetl.DeadLetter // committed since the State before: of values that no row can hold
	Pending  Pending
}

// Pending is what is committed and waits to be copied to its place in the file.
type Pending struct {
	Bytes int64
	Kept  uint64 // how often there was too much of it, and a reader kept it from being copied, since the archive was opened
	Held  string // who may keep it from that now, for people; "": nobody
}

// reserved are the tables, views and indexes that an archive has for itself.
var reserved = regexp.MustCompile(`^(?i)(topics|sources|messages|msg|dead_letters|gaps|meta|readings|readings_by_series|series|latest|births|incoming|rows_[0-9]+|sqlite_.*|mqttetl_.*)$`)

// Reserved says that no typed table may have the name, because an archive has it
// for itself.
func Reserved(table string) bool { return reserved.MatchString(table) }

// ColumnType is a type of SQLite's STRICT tables.
type ColumnType uint8

// The column types. In an Any column each value keeps its own.
const (
	Integer ColumnType = iota + 1 // 64 bits, signed
	Real                          // IEEE 754, 64 bits
	Text                          // UTF-8
	Blob
	Any
)

var columnTypes = [...]string{Integer: "INTEGER", Real: "REAL", Text: "TEXT", Blob: "BLOB", Any: "ANY"}

func (t ColumnType) String() string { return columnTypes[t] }

// ParseColumnType reads the name of a type, in upper or lower case.
func ParseColumnType(s string) (ColumnType, error) {
	for t := Integer; t <= Any; t++ {
		if strings.EqualFold(s, columnTypes[t]) {
			return t, nil
		}
	}
	return 0, fmt.Errorf("%q is no column type: INTEGER, REAL, TEXT, BLOB or ANY", s)
}

// Column is a column of a typed table.
type Column struct {
	Name string
	Type ColumnType
}

// Table is a typed table: what routes make of messages. Each row says in the
// columns seq and time, which precede Columns, which record it comes from
// and when that was measured (Unix nanoseconds, UTC; NULL: not known).
type Table struct {
	Name    string
	Columns []Column
}

// Kind is the type of a Value.
type Kind uint8

// The kinds. Null is that of the zero Value.
const (
	Null Kind = iota
	Int
	Float
	String
	Bytes
)

// Value is the content of one column of one row. Its text is not copied: it is
// valid only as long as what it was made from.
type Value struct {
	Kind Kind
	bits uint64
	text string
}

// IntValue, FloatValue, StringValue and BytesValue are values of their kind.
// The bytes that BytesValue holds as a string may be shared with the caller's.
func IntValue(v int64) Value     { return Value{Kind: Int, bits: uint64(v)} }
func FloatValue(v float64) Value { return Value{Kind: Float, bits: math.Float64bits(v)} }
func StringValue(v string) Value { return Value{Kind: String, text: v} }
func BytesValue(v string) Value  { return Value{Kind: Bytes, text: v} }
func (v Value) Int() int64       { return int64(v.bits) }                // of an Int
func (v Value) Float() float64   { return math.Float64frombits(v.bits) } // of a Float
func (v Value) Text() string     { return v.text }                       // of a String, or of Bytes
func (v Value) IsNull() bool     { return v.Kind == Null }

// Interface is the value as nil, int64, float64, string or []byte, all of them copies.
func (v Value) Interface() any {
	switch v.Kind {
	case Int:
		return v.Int()
	case Float:
		return v.Float()
	case String:
		return strings.Clone(v.text)
	case Bytes:
		return []byte(v.text)
	}
	return nil
}

// Rows are rows of one typed table on their way into the archive.
type Rows struct {
	Table  *Table
	values []Value // row after row: seq, time, the columns
}

// Width is the number of values in a row: seq, time and those of the columns.
func (r *Rows) Width() int { return 2 + len(r.Table.Columns) }

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.values) / r.Width() }

// Row is row i: seq, time, and the columns in the order of the table.
func (r *Rows) Row(i int) []Value {
	w := r.Width()
	return r.values[i*w : (i+1)*w : (i+1)*w]
}

// Add appends a row of NULLs but for its seq and returns it to be filled.
func (r *Rows) Add(seq mqttetl.Seq) []Value {
	r.values = append(r.values, IntValue(int64(seq)))
	for range r.Width() - 1 {
		r.values = append(r.values, Value{})
	}
	return r.Row(r.Len() - 1)
}

// Truncate keeps the first n rows.
func (r *Rows) Truncate(n int) { r.values = r.values[:n*r.Width()] }

// Reading is a number found in a message: a leaf of its document, or all of it.
type Reading struct {
	Topic []byte
	Path  []byte // as jq writes it, .a.b[0]; . for the whole
	Time  int64  // receipt, Unix nanoseconds, UTC
	Value float64
}

// Birth is something that a route must remember between messages: what a
// Sparkplug node or device has declared, or how far its messages have come.
// The archive keeps it in the transaction of the rows.
type Birth struct {
	Route string
	Key   string
	Value string // JSON; "": forgotten
	Below bool   // forgotten are all keys that begin with Key
}
