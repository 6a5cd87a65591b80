// Package transform makes rows of typed tables, and objects to publish, out of
// records, as the routes of the configuration say.
//
// Its invariant: what a route makes of a record depends on nothing but the
// route and the record (and, for Sparkplug, the births before it). So the rows
// can be made again from the archived messages at any time, and are the same.
// Nothing that a record holds, and no jq program, ends in a crash or an endless
// wait: it is rows, or a Failure that says why not.
//
// # Values
//
// A column's path leads to a value, which is converted to the column's type:
//
//	INTEGER  whole numbers of 64 bits, exactly; 21.0 too, 21.5 not; true is 1
//	REAL     numbers; true is 1
//	TEXT     text; numbers, true and false as JSON writes them; objects and arrays as JSON
//	BLOB     byte strings (CBOR, raw …) and the bytes of text
//	ANY      numbers, text and byte strings as they are, true as 1, the rest as TEXT
//
// Text that holds a number is a number to INTEGER and REAL, and empty text NULL.
// null is NULL. A path that leads nowhere is an error, unless it ends in "?".
// NaN and infinity, as numbers or in text, are NULL to INTEGER and REAL, which is
// noted, unless the route is strict. A payload that is one number or word is
// the bytes of it to TEXT, although jq sees a number: 1.10 stays 1.10.
//
// # Times
//
// With format auto a number is Unix time, in seconds below 1e11, milliseconds
// below 1e14, microseconds below 1e17 and else nanoseconds. Text is RFC 3339,
// with T or a space, or the same without a zone, which is local in the route's
// time zone, or a number. A local time that a clock change skips is an error;
// of the two moments that one which it repeats can mean, the one nearer to the
// receipt of the message counts. A time before DefaultNotBefore or later after the
// receipt than DefaultNotAfter, or one of zeros, is that of a clock which is not
// set: the route's fallback decides, and it is noted.
package transform

import (
	"time"

	"github.com/mqttetl/mqttetl/sink/store"
)

// Route says which messages become what.
type Route struct {
	Name    string
	Topic   string   // levels: text, {name}, {name...} for one or more, + and ... without a name, #
	Exclude []string // as Topic; what its names stand for does not matter
	Empty   bool     `json:",omitempty"` // empty payloads too: "" of text and raw, else null

	Decode     string   // format of package decode; "": auto
	Strict     bool     `json:",omitempty"` // what is wrong in a payload fails all of it: see package decode
	Decompress string   `json:",omitempty"` // one of decode.Compressions, or DecompressNone; "": auto for formats of text, else none
	Descriptor string   // protobuf: file that protoc -o has written
	Message    string   // protobuf: full name of the message
	Header     []string // csv: names of the columns; none: the first line of each payload has them
	Comma      string   // csv: one character, "": a comma

	When    string   // jq, which knows $topic and the names of Topic, $name; "": always
	Map     string   // jq, as When; "": the document as it is
	Table   string   // "": none
	Columns []Column // in their order
	Time    Time
	Publish string // subject with {name}; "": none
	OnError string // OnErrorDeadLetter or OnErrorNull; "": OnErrorDeadLetter
	// Rebirth: Sparkplug nodes whose birth is missing may be asked for it, each
	// this often at most. 0: never. What is made of a message does not depend on it.
	Rebirth time.Duration `json:"-"`

	decoded bool // payloads are documents, see handsDocuments
}

// Column is one column of a route's table, or member of its published object.
type Column struct {
	Name string
	Type store.ColumnType
	Path string // path or jq; "": the member of the column's name
}

// Time says where the time of a row comes from.
type Time struct {
	Path     string // path or jq, in the document; "": the receipt, or with Map the member time of what it makes
	Format   string // auto, rfc3339, unix, unix_ms, unix_us, unix_ns, a layout of Go (2006-01-02 15:04:05) or of strftime (%Y-%m-%d); "": auto
	Timezone string // of times without one, IANA name; "": UTC
	Fallback string // where the path leads nowhere or to null: FallbackReceived or FallbackNone; "": FallbackReceived

	// A time outside of these is that of a clock which is not set: it counts as
	// if there were none.
	NotBefore string `json:",omitempty"` // RFC 3339 or a date, or any; "": DefaultNotBefore
	NotAfter  string `json:",omitempty"` // the receipt and this duration, or any; "": DefaultNotAfter
}

// The values of OnError and Fallback.
const (
	OnErrorDeadLetter = "dead_letter" // no row, a dead letter
	OnErrorNull       = "null"        // NULL where a value could not be had
	FallbackReceived  = "received"    // the time of receipt
	FallbackNone      = "none"        // an error, see OnError
	DecompressNone    = "none"        // payloads are not compressed
)

// Problem is what is wrong with a route.
type Problem struct {
	Key    string // when, map, topic, columns.NAME, time.format, …
	Offset int    // in bytes into the value of the key; -1: all of it
	Text   string
}

// Error is a route that cannot be compiled.
type Error struct {
	Route    string
	Index    int // of the route among those given to Compile
	Problems []Problem
}

func (e *Error) Error() string {
	p := e.Problems[0]
	return "route " + e.Route + ": " + p.Key + ": " + p.Text
}
