package decode

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// compressedUUID marks a Payload whose body is another one, compressed
// (Sparkplug 3.0, 6.4.6: it defines the field; the mark is Eclipse Tahu's).
const compressedUUID = "SPBV1.0_COMPRESSED"

// inflated returns the body as it was before its compression by the algorithm
// that a metric names: GZIP, or DEFLATE, which is what is used without one. The
// bytes say which of its forms that is.
func (p *wirePayload) inflated(x *Inflater, max int) ([]byte, error) {
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
	format := "deflate"
	if bytes.HasPrefix(p.body, []byte{0x1f, 0x8b}) {
		format = "gzip"
	}
	limit := min(max, maxInflated(len(p.body)))
	out, err := x.inflate(format, p.body, limit)
	if errors.Is(err, errBomb) {
		return nil, fmt.Errorf("a body of %d bytes becomes more than %d, which is refused", len(p.body), limit)
	}
	return out, err
}
