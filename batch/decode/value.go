package decode

import (
	"fmt"
	"math"
	"strconv"
)

// Kind says what a Value is.
type Kind uint8

// The kinds. Missing and Null are both null to jq.
const (
	Missing Kind = iota // the path leads nowhere
	Null
	Bool
	Int   // a number without fraction and exponent, of any length
	Float // any other number
	String
	JSON   // an object or an array
	Misfit // a step of the path does not fit: see Err
)

// Value is where a path leads in a JSON payload. It is a view: it holds until
// the payload changes or the Extractor is used again.
type Value struct {
	raw     []byte  // of a string without its quotes
	misfit  *misfit // of kind Misfit
	pos     int     // of the value in the payload; of a Misfit of what was found
	kind    Kind
	found   Kind // instead of what a Misfit looks for
	escaped bool
}

// misfit is the error of one path and step.
type misfit struct {
	path Path
	step int
}

// Kind says what the value is.
func (v *Value) Kind() Kind { return v.kind }

// IsNull reports whether the value is missing or null.
func (v *Value) IsNull() bool { return v.kind <= Null }

// Raw returns the value as it stands in the payload, a string without its
// quotes and with its escapes; nil if it is missing.
func (v *Value) Raw() []byte { return v.raw }

// Text returns a string without its escapes, and the JSON text of any other
// kind. It allocates only if something is escaped.
func (v *Value) Text() []byte {
	if v.escaped {
		return unescaped(make([]byte, 0, len(v.raw)), v.raw)
	}
	return v.raw
}

// String is Text as a string.
func (v *Value) String() string { return string(v.Text()) }

// Any returns the value as a document: nil for what is missing, the error of
// Err for a misfit.
func (v *Value) Any() (any, error) {
	switch v.kind {
	case JSON:
		return parseJSON(v.raw, len(v.raw)) // checked before, and not deeper than it was then
	case Misfit:
		return nil, v.Err()
	}
	return v.scalar(), nil
}

// Bool returns a boolean; any other kind is an error.
func (v *Value) Bool() (bool, error) {
	if v.kind != Bool {
		return false, v.not("a boolean")
	}
	return v.raw[0] == 't', nil
}

// Int64 returns a number exactly. It is an error if the number has a fraction
// or is beyond 64 bits with a sign; 2.0 and 1e3 are integers.
func (v *Value) Int64() (int64, error) {
	switch v.kind {
	case Int:
		if n, ok := parseInt(v.raw); ok {
			return n, nil
		}
		return 0, fmt.Errorf("%s at byte %d is beyond an integer of 64 bits", shorten(v.raw), v.pos)
	case Float:
		f, err := v.Float64()
		if err != nil {
			return 0, err
		}
		n, ok := FloatInt64(f)
		if !ok {
			return 0, fmt.Errorf("%s at byte %d is not an integer of 64 bits", shorten(v.raw), v.pos)
		}
		return n, nil
	}
	return 0, v.not("a number")
}

// FloatInt64 returns a float's integer value, false if it has a fraction or is
// beyond 64 bits.
func FloatInt64(f float64) (int64, bool) {
	if f != math.Trunc(f) || f < -(1<<63) || f >= 1<<63 {
		return 0, false
	}
	return int64(f), true
}

// Float64 returns a number as the nearest float. 1e400 is an error.
func (v *Value) Float64() (float64, error) {
	if v.kind != Int && v.kind != Float {
		return 0, v.not("a number")
	}
	f, err := strconv.ParseFloat(string(v.raw), 64)
	if err != nil {
		return 0, fmt.Errorf("%s at byte %d is beyond a 64-bit float", shorten(v.raw), v.pos)
	}
	return f, nil
}

// not is the error of a value that has another kind than was asked for.
func (v *Value) not(want string) error {
	if v.kind == Misfit {
		return v.Err()
	}
	if v.kind == Missing {
		return fmt.Errorf("nothing is not %s", want)
	}
	return fmt.Errorf("%s at byte %d is not %s", shorten(v.raw), v.pos, want)
}

// Err returns why a path does not fit the document, nil unless the kind is
// Misfit.
func (v *Value) Err() error {
	if v.kind != Misfit {
		return nil
	}
	return v.misfit.path.misfitError(v.misfit.step, v.found.describe())
}

// describe names a kind as kindOf does.
func (k Kind) describe() string {
	switch k {
	case Bool:
		return "a boolean"
	case Int, Float:
		return "a number"
	case String:
		return "a string"
	case objectKind:
		return "an object"
	case arrayKind:
		return "an array"
	}
	return "null"
}

// shorten keeps errors on one line.
func shorten[T string | []byte](raw T) string {
	if len(raw) > 40 {
		return string(raw[:40]) + "…"
	}
	return string(raw)
}

// parseInt reads an integer as JSON writes it, false if it is beyond int64.
func parseInt(raw []byte) (int64, bool) {
	neg := raw[0] == '-'
	if neg {
		raw = raw[1:]
	}
	if len(raw) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range raw {
		n = n*10 + uint64(c-'0')
	}
	if neg {
		return -int64(n), n <= 1<<63
	}
	return int64(n), n < 1<<63
}
