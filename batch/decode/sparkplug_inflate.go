package decode

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
)

// compressedUUID marks a Payload whose body is another one, compressed
// (Sparkplug 3.0, 6.4.6: it defines the field; the mark is Eclipse Tahu's).
const compressedUUID = "SPBV1.0_COMPRESSED"

// maxRatio bounds what a body grows to, by its own size. Births of many equal
// metrics reach about 50.
const maxRatio = 200

// inflated returns the body as it was before its compression by the algorithm
// that a metric names: GZIP, or DEFLATE, which is what is meant without one. The
// bytes say which of its forms that is.
func (p *wirePayload) inflated(max int) ([]byte, error) {
	for i := range p.metrics {
		m := &p.metrics[i]
		if m.name == nil || *m.name != "algorithm" || m.value.kind != stringValue {
			continue
		}
		switch a := strings.ToUpper(string(m.value.raw)); a {
		case "GZIP", "DEFLATE":
		default:
			return nil, fmt.Errorf("the algorithm is %.20q, not GZIP or DEFLATE", a)
		}
	}
	if len(p.body) == 0 {
		return nil, errors.New("there is no body")
	}
	r, err := inflater(p.body)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(max)+1))
	switch {
	case len(out) > max:
		return nil, fmt.Errorf("more than the %d bytes that are decoded", max)
	case len(out) > 1<<16 && len(out)/len(p.body) > maxRatio:
		return nil, fmt.Errorf("%d bytes of %d, more than %d times as many", len(out), len(p.body), maxRatio)
	}
	return out, err
}

func inflater(body []byte) (io.Reader, error) {
	switch {
	case len(body) > 1 && body[0] == 0x1f && body[1] == 0x8b: // RFC 1952, 2.3.1
		return gzip.NewReader(bytes.NewReader(body))
	case len(body) > 1 && body[0]&15 == 8 && (int(body[0])<<8|int(body[1]))%31 == 0: // RFC 1950, 2.2
		return zlib.NewReader(bytes.NewReader(body))
	}
	return flate.NewReader(bytes.NewReader(body)), nil
}
