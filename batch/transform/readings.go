package transform

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Bounds of the readings of one message.
const (
	MaxReadings  = 10_000
	MaxPathBytes = 4 << 10 // of one path
	maxPathsSize = 1 << 20 // bytes of all its paths
)

// ReadingsRoute is the name under which messages beyond them fail, and under
// which Stats and Notes have what readings do.
const ReadingsRoute = "readings"

// walker finds the numbers of a document.
type walker struct {
	decoder  decode.Decoder
	inflater *decode.Inflater
	stats    Stats
	noted    [kinds]bool
	notes    [kinds]string // of the present message
	path     []byte
	paths    []byte // those that readings have, one after the other
	start    int    // of those of the present message
}

func newWalker() *walker {
	w := &walker{inflater: decode.NewInflater("auto"), stats: Stats{Route: ReadingsRoute}}
	var err error
	w.decoder, err = decode.New("auto", decode.Options{Lenient: true, Mended: func(what string) { w.notes[Mended] = what }})
	if err != nil {
		panic(err) // auto needs nothing
	}
	return w
}

func (w *walker) reset() { w.paths = w.paths[:0] }

// skip notes a value that is none of the readings.
func (w *walker) skip(format string, args ...any) {
	w.stats.Skipped++
	if w.notes[Skipped] == "" && !w.noted[Skipped] {
		w.notes[Skipped] = fmt.Sprintf(format, args...)
	}
}

// readings adds every number and boolean of the payload. What is neither JSON
// nor a number has none, and that is no failure.
func (a *Applier) readings(rec *mqttetl.Record) {
	before := len(a.Readings)
	a.walk.start = len(a.walk.paths)
	a.walk.notes = [kinds]string{}
	a.addReadings(rec, before)
	if a.walk.notes[Mended] != "" && len(a.Readings) > before {
		a.walk.stats.Mended++
	}
	a.say(ReadingsRoute, &a.walk.noted, rec.Seq, &a.walk.notes)
}

func (a *Applier) addReadings(rec *mqttetl.Record, before int) {
	if err := a.numbers(rec, before); err != nil {
		a.Readings = a.Readings[:before]
		a.walk.paths = a.walk.paths[:a.walk.start]
		a.walk.stats.Errors++
		a.Failures = append(a.Failures, Failure{ReadingsRoute, rec.Seq, err, false, ""})
	}
}

func (a *Applier) numbers(rec *mqttetl.Record, before int) (err error) {
	defer recovered(&err)
	payload := rec.Payload
	if a.walk.inflater.Takes(payload) {
		if payload, err = a.walk.inflater.Inflate(payload); err != nil {
			a.walk.skip("%v", err)
			return nil
		}
	}
	err = a.walk.decoder.Decode("", payload, func(doc any) error {
		a.walk.path = a.walk.path[:0]
		return a.leaves(rec, doc, before+MaxReadings)
	})
	if err != nil && errors.As(err, new(decode.NotJSON)) {
		a.walk.skip("%v", err)
		return nil
	}
	return err
}

func (a *Applier) leaves(rec *mqttetl.Record, doc any, limit int) error {
	at := len(a.walk.path)
	defer func() { a.walk.path = a.walk.path[:at] }()
	switch v := doc.(type) {
	case map[string]any:
		for name, e := range v {
			a.walk.path = appendName(a.walk.path[:at], name)
			if err := a.leaves(rec, e, limit); err != nil {
				return err
			}
		}
	case []any:
		for i, e := range v {
			if at == 0 {
				a.walk.path = append(a.walk.path, '.')
			}
			a.walk.path = append(strconv.AppendInt(append(a.walk.path, '['), int64(i), 10), ']')
			if err := a.leaves(rec, e, limit); err != nil {
				return err
			}
			a.walk.path = a.walk.path[:at]
		}
	default:
		value, ok := a.reading(doc)
		if !ok {
			return nil
		}
		switch {
		case len(a.Readings) == limit:
			return fmt.Errorf("more than %d numbers in one message", MaxReadings)
		case at > MaxPathBytes:
			a.walk.skip("the path of a number is longer than %d bytes: %.40s…", MaxPathBytes, a.walk.path)
			return nil
		case len(a.walk.paths)-a.walk.start+at > maxPathsSize:
			return fmt.Errorf("the paths of the numbers of one message are longer than %d bytes", maxPathsSize)
		}
		a.Readings = append(a.Readings, store.Reading{Topic: rec.Topic, Path: a.walk.keep(), Time: rec.Time, Value: value})
	}
	return nil
}

// keep copies the present path to where it lasts until reset.
func (w *walker) keep() []byte {
	if len(w.path) == 0 {
		return []byte(".")
	}
	start := len(w.paths)
	w.paths = append(w.paths, w.path...)
	return w.paths[start:len(w.paths):len(w.paths)]
}

// appendName appends the step to a member as jq writes it.
func appendName(path []byte, name string) []byte {
	if CheckName(name) == nil {
		return append(append(path, '.'), name...)
	}
	if len(path) == 0 {
		path = append(path, '.')
	}
	quoted, _ := json.Marshal(name) // of a string never fails
	return append(append(append(path, '['), quoted...), ']')
}

func (a *Applier) reading(v any) (float64, bool) {
	if s, ok := v.(string); ok {
		return a.readingText(s)
	}
	f, ok := reading(v)
	if _, isNumber := v.(json.Number); !ok && isNumber {
		a.walk.skip("the number %s at %s is beyond REAL", shorten(fmt.Sprint(v)), a.walk.at())
	}
	return f, ok
}

// readingText takes text that is a number as JSON writes it, if it is wanted.
func (a *Applier) readingText(s string) (float64, bool) {
	if s == "" || s[0] > '9' && strings.IndexByte("nNiI", s[0]) < 0 || len(s) > 40 { // most text is none
		return 0, false
	}
	v, ok := decode.Number(s)
	if !ok {
		if almostNumber(s) {
			a.walk.skip("the text %q at %s is no number as JSON writes it: a route with a column REAL reads it", s, a.walk.at())
		}
		return 0, false
	}
	if !a.o.ReadingsText {
		a.walk.skip("the text %q at %s is a number: archive.readings_text takes these", s, a.walk.at())
		return 0, false
	}
	return reading(v)
}

// almostNumber says whether a text is a number with a unit or a decimal comma, or
// nan, by its shape first: texts such as times, versions and addresses are many.
func almostNumber(s string) bool {
	rest := strings.TrimLeft(s, "+-0123456789.,")
	if len(rest) == len(s) || s[0] == '-' || s[0] == '+' {
		if len(rest) >= 3 && len(rest) <= 10 && decode.NotFinite(s) {
			return true
		}
	}
	if len(rest) == len(s) || len(rest) > 12 || rest == "" && !strings.Contains(s, ",") || strings.ContainsAny(rest, "0123456789:/") {
		return false
	}
	_, _, ok := decode.MendNumber(s)
	return ok
}

// at is the present path as people read it.
func (w *walker) at() string {
	if len(w.path) == 0 {
		return "."
	}
	return shorten(string(w.path))
}

func reading(v any) (float64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int:
		return float64(v), true
	case float64:
		return v, !math.IsInf(v, 0) && !math.IsNaN(v)
	case *big.Int:
		f, _ := v.Float64()
		return f, !math.IsInf(f, 0)
	}
	return 0, false
}
