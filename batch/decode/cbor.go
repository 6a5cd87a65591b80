package decode

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

func init() { formats["cbor"] = newCBOR }

// newCBOR decodes RFC 8949: one item a payload. Integer keys become text, dates
// of tags 0 and 1 RFC 3339, other tags are dropped from what they tag.
func newCBOR(o Options) (Decoder, error) {
	options := cbor.DecOptions{
		MaxNestedLevels:  min(max(o.MaxDepth, 4), 65535),
		MaxArrayElements: max(o.MaxBytes, 16), // an element has a byte at least
		MaxMapPairs:      max(o.MaxBytes, 16),
		DefaultMapType:   reflect.TypeFor[map[any]any](),
		BigIntDec:        cbor.BigIntDecodePointer,
		TimeTagToAny:     cbor.TimeTagToRFC3339Nano,
	}
	if o.Lenient {
		options.UTF8 = cbor.UTF8DecodeInvalid
	}
	mode, err := options.DecMode()
	if err != nil {
		return nil, err
	}
	return decoderFunc(func(p []byte) (any, error) {
		if len(p) == 0 {
			return nil, errors.New("payload is not CBOR: it is empty")
		}
		w := weigher{p, o.budget(p)}
		if _, err := w.item(options.MaxNestedLevels, 0); err != nil {
			return nil, fmt.Errorf("payload is refused: %w", err)
		}
		var v any
		err := mode.Unmarshal(p, &v)
		if err == nil {
			bad := 0
			if v, err = fromCBOR(v, &bad); err == nil && bad > 0 {
				o.mended(fmt.Sprintf("invalid UTF-8 in %d strings reads as U+FFFD", bad))
			}
		}
		if err != nil {
			return nil, fmt.Errorf("payload is not CBOR: %s", strings.TrimPrefix(err.Error(), "cbor: "))
		}
		return v, nil
	}), nil
}

// maxBigBits is about maxNumber digits.
const maxBigBits = 3322

// fromCBOR makes a document of what cbor returns. bad counts strings that are not UTF-8.
func fromCBOR(v any, bad *int) (any, error) {
	switch v := v.(type) {
	case uint64:
		return fromUint(v), nil
	case int64:
		return int(v), nil
	case *big.Int:
		if v.BitLen() > maxBigBits {
			return nil, fmt.Errorf("an integer of %d bits", v.BitLen())
		}
		if v.IsInt64() {
			return int(v.Int64()), nil
		}
		return v, nil
	case []byte:
		return Bytes(v), nil
	case string:
		return textCBOR(v, bad), nil
	case cbor.SimpleValue:
		return int(v), nil
	case cbor.Tag:
		return fromCBOR(v.Content, bad)
	case []any:
		for i := range v {
			e, err := fromCBOR(v[i], bad)
			if err != nil {
				return nil, err
			}
			v[i] = e
		}
		return v, nil
	case map[any]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			name, err := keyCBOR(k, bad)
			if err != nil {
				return nil, err
			}
			if _, twice := m[name]; twice {
				return nil, fmt.Errorf("a map has the key %s twice, as a number and as text", shorten(name))
			}
			if m[name], err = fromCBOR(e, bad); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	return v, nil // nil, bool, float64
}

func textCBOR(s string, bad *int) string {
	if utf8.ValidString(s) {
		return s
	}
	*bad++
	return validText(s)
}

func keyCBOR(k any, bad *int) (string, error) {
	switch k := k.(type) {
	case string:
		return textCBOR(k, bad), nil
	case uint64:
		return strconv.FormatUint(k, 10), nil
	case int64:
		return strconv.FormatInt(k, 10), nil
	}
	return "", fmt.Errorf("a map has a key that is neither text nor a number: %T", k)
}

// fromUint returns an integer that may be beyond int.
func fromUint(v uint64) any {
	if v > 1<<63-1 {
		return new(big.Int).SetUint64(v)
	}
	return int(v)
}
