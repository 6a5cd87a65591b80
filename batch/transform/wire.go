package transform

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// What goes between an Applier and its worker are frames: a length of 4 bytes,
// and a request or its answer. Both sides are the same program, so there are no
// versions.

// maxFrame is more than any frame has: what is longer is no answer of ours.
const maxFrame = 64 << 20

// beginFrame makes room for the length of what is appended next, endFrame writes it.
func beginFrame(dst []byte) (_ []byte, at int) { return append(dst, 0, 0, 0, 0), len(dst) }

func endFrame(p []byte, at int) { binary.LittleEndian.PutUint32(p[at:], uint32(len(p)-at-4)) }

// readFrame reads one with room for it from alloc.
func readFrame(r io.Reader, alloc func(n int) []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := frameLength(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	p := alloc(n)
	_, err := io.ReadFull(r, p)
	return p, err
}

func frameLength(head []byte) int { return int(binary.LittleEndian.Uint32(head)) }

// greeting is the first frame to a worker. Its answer is empty, or says why the
// worker cannot work.
type greeting struct {
	Build     string
	Routes    []Route
	Objects   bool
	TimeLimit time.Duration
}

// appendRequest asks for what a route makes of a record. The body is the payload,
// or its documents where the worker cannot decode it.
func appendRequest(dst []byte, route int, rec *mqttetl.Record, only *Part, body []byte) []byte {
	dst = binary.AppendUvarint(append(dst, byte(rec.Flags)), uint64(route))
	dst = binary.AppendUvarint(dst, uint64(rec.Seq))
	dst = binary.AppendVarint(dst, rec.Time)
	dst = appendText(dst, rec.Topic)
	if only == nil {
		return append(append(dst, 0), body...)
	}
	dst = binary.AppendUvarint(dst, uint64(1+len(only.ranges)))
	for _, r := range only.ranges {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(r[0])), uint64(r[1]))
	}
	return append(dst, body...)
}

func (w *wire) request(rec *mqttetl.Record) (route int, only *Part) {
	rec.Flags = mqttetl.Flags(w.byte())
	route = int(w.uint())
	rec.Seq, rec.Time = mqttetl.Seq(w.uint()), w.int()
	rec.Topic = w.text()
	only = w.part()
	rec.Payload = w.p
	return route, only
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// wire reads frames. After the first error it returns zeros.
type wire struct {
	p   []byte
	err error
}

var errWire = errors.New("a frame between mqttetl and its worker is damaged")

func (w *wire) fail() { w.p, w.err = nil, errWire }

func (w *wire) byte() byte {
	if len(w.p) == 0 {
		w.fail()
		return 0
	}
	b := w.p[0]
	w.p = w.p[1:]
	return b
}

func (w *wire) uint() uint64 {
	v, n := binary.Uvarint(w.p)
	return number(w, v, n)
}

func (w *wire) int() int64 {
	v, n := binary.Varint(w.p)
	return number(w, v, n)
}

// number is one that has taken n bytes.
func number[T uint64 | int64](w *wire, v T, n int) T {
	if n <= 0 {
		w.fail()
		return 0
	}
	w.p = w.p[n:]
	return v
}

func (w *wire) float() float64 {
	if len(w.p) < 8 {
		w.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(w.p)
	w.p = w.p[8:]
	return math.Float64frombits(v)
}

// text is part of the frame.
func (w *wire) text() []byte {
	n := w.uint()
	if n > uint64(len(w.p)) {
		w.fail()
		return nil
	}
	p := w.p[:n:n]
	w.p = w.p[n:]
	return p
}

// count is of things that take a byte each at least.
func (w *wire) count() int {
	n := w.uint()
	if n > uint64(len(w.p)) {
		w.fail()
		return 0
	}
	return int(n)
}

func (w *wire) part() *Part {
	n := w.uint()
	if n == 0 {
		return nil
	}
	p := &Part{}
	for ; n > 1 && w.err == nil; n-- {
		from, to := int(w.uint()), int(w.uint())
		p.ranges = append(p.ranges, [2]int{from, to})
		p.n += to - from + 1
	}
	return p
}

// The kinds of documents.
const (
	docNull = iota
	docFalse
	docTrue
	docInt
	docBig
	docFloat
	docNumber
	docString
	docBytes
	docArray
	docObject
	docFailed
)

// appendDoc appends a document of a decoder, exactly.
func appendDoc(dst []byte, doc any) []byte {
	switch v := doc.(type) {
	case bool:
		if v {
			return append(dst, docTrue)
		}
		return append(dst, docFalse)
	case int:
		return binary.AppendVarint(append(dst, docInt), int64(v))
	case *big.Int:
		return appendText(append(dst, docBig), v.String())
	case float64:
		return binary.LittleEndian.AppendUint64(append(dst, docFloat), math.Float64bits(v))
	case json.Number:
		return appendText(append(dst, docNumber), v)
	case string:
		return appendText(append(dst, docString), v)
	case decode.Bytes:
		return appendText(append(dst, docBytes), v)
	case decode.Failed:
		return appendText(append(dst, docFailed), v.Err.Error())
	case []any:
		dst = binary.AppendUvarint(append(dst, docArray), uint64(len(v)))
		for _, e := range v {
			dst = appendDoc(dst, e)
		}
		return dst
	case map[string]any:
		dst = binary.AppendUvarint(append(dst, docObject), uint64(len(v)))
		for k, e := range v {
			dst = appendDoc(appendText(dst, k), e)
		}
		return dst
	}
	return append(dst, docNull)
}

// documents decodes what appendDoc has encoded.
type documents struct{}

func (documents) Decode(_ string, p []byte, emit func(any) error) error {
	w := wire{p: p}
	for n := w.uint(); n > 0 && w.err == nil; n-- {
		if err := emit(w.doc(DepthLimit)); err != nil {
			return err
		}
	}
	return w.err
}

// doc reads a document, as deep as decoders make them.
func (w *wire) doc(depth int) any {
	if depth < 0 {
		w.fail()
	}
	switch w.byte() {
	case docFalse:
		return false
	case docTrue:
		return true
	case docInt:
		return int(w.int())
	case docBig:
		n, _ := new(big.Int).SetString(string(w.text()), 10)
		return n
	case docFloat:
		return w.float()
	case docNumber:
		return json.Number(w.text())
	case docString:
		return string(w.text())
	case docBytes:
		return decode.Bytes(w.text())
	case docFailed:
		return decode.Failed{Err: errors.New(string(w.text()))}
	case docArray:
		list := make([]any, w.count())
		for i := range list {
			list[i] = w.doc(depth - 1)
		}
		return list
	case docObject:
		n := w.count()
		m := make(map[string]any, n)
		for range n {
			k := string(w.text())
			m[k] = w.doc(depth - 1)
		}
		return m
	}
	return nil
}

func appendValue(dst []byte, v store.Value) []byte {
	dst = append(dst, byte(v.Kind))
	switch v.Kind {
	case store.Int:
		dst = binary.AppendVarint(dst, v.Int())
	case store.Float:
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.Float()))
	case store.String, store.Bytes:
		dst = appendText(dst, v.Text())
	}
	return dst
}

// value is one whose text is part of the frame.
func (w *wire) value() store.Value {
	switch store.Kind(w.byte()) {
	case store.Int:
		return store.IntValue(w.int())
	case store.Float:
		return store.FloatValue(w.float())
	case store.String:
		return store.StringValue(sharedString(w.text()))
	case store.Bytes:
		return store.BytesValue(sharedString(w.text()))
	}
	return store.Value{}
}
