package decode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

func init() { formats["msgpack"] = newMsgpack }

// newMsgpack decodes MessagePack: one object a payload. Integer keys become
// text, timestamps (extension -1) RFC 3339, other extensions Bytes.
func newMsgpack(o Options) (Decoder, error) {
	return decoderFunc(func(p []byte) (any, error) {
		if len(p) == 0 {
			return nil, errors.New("payload is not MessagePack: it is empty")
		}
		u := unpacker{lenient: o.Lenient, left: o.budget(p)}
		v, rest, err := u.value(p, o.MaxDepth)
		if err == nil && len(rest) > 0 {
			err = errors.New("something follows the first value")
		}
		if err != nil {
			return nil, fmt.Errorf("payload is not MessagePack: %w, at byte %d", err, len(p)-len(rest))
		}
		if u.bad > 0 {
			o.mended(fmt.Sprintf("invalid UTF-8 in %d strings reads as U+FFFD", u.bad))
		}
		return v, nil
	}), nil
}

// unpacker reads values.
type unpacker struct {
	lenient bool
	bad     int // strings that are not UTF-8
	left    budget
}

// value reads a value and returns what is after it, or what was in front
// of it when there is an error.
func (u *unpacker) value(p []byte, depth int) (v any, rest []byte, err error) {
	if err := u.left.take(scalarCost); err != nil {
		return nil, p, err
	}
	switch t := msgp.NextType(p); t {
	case msgp.NilType:
		rest, err = msgp.ReadNilBytes(p)
	case msgp.BoolType:
		v, rest, err = result(msgp.ReadBoolBytes(p))
	case msgp.IntType:
		var n int64
		n, rest, err = msgp.ReadInt64Bytes(p)
		v = int(n)
	case msgp.UintType:
		var n uint64
		n, rest, err = msgp.ReadUint64Bytes(p)
		v = fromUint(n)
	case msgp.Float32Type:
		var f float32
		f, rest, err = msgp.ReadFloat32Bytes(p)
		v = float64(f)
	case msgp.Float64Type:
		v, rest, err = result(msgp.ReadFloat64Bytes(p))
	case msgp.StrType:
		v, rest, err = u.text(p)
	case msgp.BinType:
		var b []byte
		b, rest, err = msgp.ReadBytesZC(p)
		if err == nil {
			err = u.left.take(textCost + len(b))
		}
		if err == nil {
			v = Bytes(append([]byte{}, b...))
		}
	case msgp.ArrayType:
		v, rest, err = u.array(p, depth-1)
	case msgp.MapType:
		v, rest, err = u.object(p, depth-1)
	case msgp.InvalidType:
		err = errors.New("it ends too early or has a byte that starts nothing")
	default:
		if err := u.left.take(2 * textCost); err != nil {
			return nil, p, err
		}
		v, rest, err = extensionMsgpack(p)
	}
	if err != nil {
		if rest == nil {
			rest = p
		}
		return nil, rest, err
	}
	return v, rest, nil
}

// result makes a document of what msgp returns.
func result[T any](v T, rest []byte, err error) (any, []byte, error) { return v, rest, err }

func (u *unpacker) text(p []byte) (any, []byte, error) {
	raw, rest, err := msgp.ReadStringZC(p)
	if err == nil {
		err = u.left.take(textCost + 2*len(raw))
	}
	if err != nil {
		return nil, p, err
	}
	s := string(raw)
	if !utf8.ValidString(s) {
		if !u.lenient {
			return nil, p, errors.New("a string with invalid UTF-8")
		}
		u.bad++
		if err := u.left.take(3*len(raw) + textCost); err != nil {
			return nil, p, err
		}
		s = validText(s)
	}
	return s, rest, nil
}

func (u *unpacker) array(p []byte, depth int) (any, []byte, error) {
	if depth < 0 {
		return nil, p, errTooDeep
	}
	n, rest, err := msgp.ReadArrayHeaderBytes(p)
	if err != nil {
		return nil, p, err
	}
	var a growing // n is only a claim
	for range n {
		if err := u.left.take(elementCost); err != nil {
			return nil, rest, err
		}
		var v any
		if v, rest, err = u.value(rest, depth); err != nil {
			return nil, rest, err
		}
		a.add(v)
	}
	return a.array(), rest, nil
}

func (u *unpacker) object(p []byte, depth int) (any, []byte, error) {
	if depth < 0 {
		return nil, p, errTooDeep
	}
	n, rest, err := msgp.ReadMapHeaderBytes(p)
	if err != nil {
		return nil, p, err
	}
	if err := u.left.take(objectCost); err != nil {
		return nil, p, err
	}
	m := map[string]any{}
	for range n {
		if err := u.left.member(len(m)); err != nil {
			return nil, rest, err
		}
		at := rest
		var k, v any
		if k, rest, err = u.value(rest, 0); err != nil {
			return nil, rest, err
		}
		var name string
		switch k := k.(type) {
		case string:
			name = k
		case int:
			name = strconv.Itoa(k)
		default:
			return nil, at, fmt.Errorf("a map with %s as a key", kindOf(k))
		}
		if v, rest, err = u.value(rest, depth); err != nil {
			return nil, rest, err
		}
		m[name] = v
	}
	return m, rest, nil
}

var errTooDeep = errors.New("it nests too deep")

// extensionMsgpack reads fixext and ext: length, type, data. msgp's own types
// are not told apart from those of others, so only the timestamp is looked into.
func extensionMsgpack(p []byte) (any, []byte, error) {
	rest, err := msgp.Skip(p)
	if err != nil {
		return nil, p, err
	}
	head := 2 // 0xd4 to 0xd8: fixext
	switch p[0] {
	case 0xc7, 0xc8, 0xc9:
		head = 2 + 1<<(p[0]-0xc7)
	}
	data := p[head : len(p)-len(rest)]
	if int8(p[head-1]) != msgp.MsgTimeExtension {
		return Bytes(append([]byte{}, data...)), rest, nil
	}
	var sec, nsec int64
	switch len(data) {
	case 4:
		sec = int64(binary.BigEndian.Uint32(data))
	case 8:
		n := binary.BigEndian.Uint64(data)
		sec, nsec = int64(n&(1<<34-1)), int64(n>>34)
	case 12:
		nsec, sec = int64(binary.BigEndian.Uint32(data)), int64(binary.BigEndian.Uint64(data[4:]))
	default:
		return nil, p, fmt.Errorf("a timestamp of %d bytes", len(data))
	}
	return time.Unix(sec, nsec).UTC().Format(time.RFC3339Nano), rest, nil
}
