package transform

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
)

// Bounds of the readings of one message.
const (
	MaxReadings  = 10_000
	MaxPathBytes = 4 << 10 // of one path
	maxPathsSize = 1 << 20 // bytes of all its paths
)

// ReadingsRoute is the name under which messages beyond them fail.
const ReadingsRoute = "readings"

// walker finds the numbers of a document.
type walker struct {
	decoder decode.Decoder
	path    []byte
	paths   []byte // those that readings have, one behind the other
	start   int    // of those of the present message
}

func newWalker() walker {
	d, err := decode.New("auto", decode.Options{})
	if err != nil {
		panic(err) // auto needs nothing
	}
	return walker{decoder: d}
}

func (w *walker) reset() { w.paths = w.paths[:0] }

// readings adds every number and boolean of the payload. What is neither JSON
// nor a number has none, and that is no failure.
func (a *Applier) readings(rec *mqttetl.Record) {
	before := len(a.Readings)
	a.walk.start = len(a.walk.paths)
	if err := a.numbers(rec, before); err != nil {
		a.Readings = a.Readings[:before]
		a.walk.paths = a.walk.paths[:a.walk.start]
		a.Failures = append(a.Failures, Failure{ReadingsRoute, rec.Seq, err, false, ""})
	}
}

func (a *Applier) numbers(rec *mqttetl.Record, before int) (err error) {
	defer recovered(&err)
	err = a.walk.decoder.Decode("", rec.Payload, func(doc any) error {
		a.walk.path = a.walk.path[:0]
		return a.leaves(rec, doc, before+MaxReadings)
	})
	if errors.As(err, new(decode.NotJSON)) {
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
		value, ok := reading(doc)
		if !ok {
			return nil
		}
		switch {
		case len(a.Readings) == limit:
			return fmt.Errorf("more than %d numbers in one message", MaxReadings)
		case at > MaxPathBytes:
			return fmt.Errorf("the path of a number is longer than %d bytes: %.40s…", MaxPathBytes, a.walk.path)
		case len(a.walk.paths)-a.walk.start+at > maxPathsSize:
			return fmt.Errorf("the paths of the numbers of one message are longer than %d bytes", maxPathsSize)
		}
		a.Readings = append(a.Readings, mqttetl.Reading{Topic: rec.Topic, Path: a.walk.keep(), Time: rec.Time, Value: value})
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
