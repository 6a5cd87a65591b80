package decode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Compressions are the names that NewInflater knows. auto goes by the first
// bytes: gzip, zlib, zstd, also one within another, or not compressed at all.
// deflate is zlib or, as some devices have it, zlib without its header.
var Compressions = []string{"auto", "gzip", "zlib", "deflate", "zstd"}

// Bounds of what is decompressed.
const (
	MaxInflated = DefaultMaxBytes
	MaxRatio    = 200 // to the payload, beyond a megabyte
	anyRatio    = 1 << 20
	maxWindow   = 8 << 20 // of zstd; what its decoder keeps in memory
	maxMembers  = 1000    // of gzip
	maxNested   = 2
)

// Inflater decompresses payloads. It is for one goroutine.
type Inflater struct {
	format string
	gzip   gzip.Reader
	zlib   io.ReadCloser // nil before its first use
	flate  io.ReadCloser
	zstd   *zstd.Decoder
}

// NewInflater makes one of a name of Compressions.
func NewInflater(format string) *Inflater { return &Inflater{format: format} }

// Takes says whether a payload may be compressed. It is cheap.
func (x *Inflater) Takes(p []byte) bool {
	return x.format != "auto" || len(p) > 4 && (p[0] == 0x1f || p[0] == 0x28 || p[0] == 0x78)
}

// Inflate returns what is in the payload, with auto the payload itself if it is
// not compressed.
func (x *Inflater) Inflate(p []byte) ([]byte, error) {
	limit := min(MaxInflated, maxInflated(len(p)))
	out, err := x.inflateAll(p, limit)
	if errors.Is(err, errBomb) {
		return nil, fmt.Errorf("payload of %d bytes becomes more than %d when it is decompressed, which is refused: the limits are %d bytes, and %d times the payload beyond %d",
			len(p), limit, MaxInflated, MaxRatio, anyRatio)
	}
	return out, err
}

// maxInflated is what n bytes may become.
func maxInflated(n int) int { return max(anyRatio, MaxRatio*n) }

func (x *Inflater) inflateAll(p []byte, limit int) ([]byte, error) {
	if x.format != "auto" {
		return x.inflate(x.format, p, limit)
	}
	for range maxNested {
		format := sniff(p)
		if format == "" {
			break
		}
		inner, err := x.inflate(format, p, limit)
		switch {
		case err == nil:
			p = inner
		case format == "zlib" && utf8.Valid(p): // x^ may be text, too
			return p, nil
		default:
			return nil, err
		}
	}
	return p, nil
}

// sniff names the format that the first bytes are of.
func sniff(p []byte) string {
	switch {
	case bytes.HasPrefix(p, []byte{0x1f, 0x8b, 8}):
		return "gzip"
	case bytes.HasPrefix(p, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	case len(p) > 4 && p[0] == 0x78 && slices.Contains([]byte{0x01, 0x5e, 0x9c, 0xda}, p[1]):
		return "zlib"
	}
	return ""
}

func (x *Inflater) inflate(format string, p []byte, limit int) (out []byte, err error) {
	switch format {
	case "gzip":
		if sniff(p) != "gzip" {
			return nil, errors.New("payload is not gzip: it does not begin as gzip does")
		}
		out, err = x.members(p, limit)
	case "zstd":
		out, err = x.frames(p, limit)
	case "deflate":
		if len(p) > 1 && p[0]&0x0f == 8 && (int(p[0])<<8|int(p[1]))%31 == 0 {
			out, err = x.stream(p, limit, newZlib, &x.zlib)
			break
		}
		out, err = x.stream(p, limit, newFlate, &x.flate)
	default:
		out, err = x.stream(p, limit, newZlib, &x.zlib)
	}
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, errBomb):
		return nil, err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return nil, fmt.Errorf("payload is not %s: it ends too early, at byte %d", format, len(p))
	}
	return nil, fmt.Errorf("payload is not %s: %w", format, err)
}

var errBomb = errors.New("too large")

// appendAll is io.ReadAll with a limit of the whole.
func appendAll(out []byte, r io.Reader, limit int) ([]byte, error) {
	for {
		if len(out) == cap(out) {
			out = slices.Grow(out, max(512, min(len(out), limit+1-len(out))))
		}
		n, err := r.Read(out[len(out):min(cap(out), limit+1)])
		if out = out[:len(out)+n]; len(out) > limit {
			return nil, errBomb
		}
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// members reads gzip, of which several may follow each other.
func (x *Inflater) members(p []byte, limit int) (out []byte, err error) {
	r := bytes.NewReader(p)
	for range maxMembers {
		if err := x.gzip.Reset(r); err != nil {
			return nil, err
		}
		x.gzip.Multistream(false)
		if out, err = appendAll(out, &x.gzip, limit); err != nil {
			return nil, err
		}
		if err := onlyNUL(p, r); err == nil {
			return out, nil
		} else if sniff(p[len(p)-r.Len():]) != "gzip" {
			return nil, err
		}
	}
	return nil, fmt.Errorf("it has more than %d members", maxMembers)
}

// onlyNUL is the error of what follows a stream.
func onlyNUL(p []byte, r *bytes.Reader) error {
	at := len(p) - r.Len()
	if len(bytes.Trim(p[at:], "\x00")) > 0 {
		return fmt.Errorf("something follows it at byte %d", at)
	}
	return nil
}

func newZlib(r io.Reader) (io.ReadCloser, error)  { return zlib.NewReader(r) }
func newFlate(r io.Reader) (io.ReadCloser, error) { return flate.NewReader(r), nil }

// stream reads zlib or bare deflate with the reader that is kept.
func (x *Inflater) stream(p []byte, limit int, open func(io.Reader) (io.ReadCloser, error), kept *io.ReadCloser) (out []byte, err error) {
	r := bytes.NewReader(p)
	if *kept == nil {
		*kept, err = open(r)
	} else {
		err = (*kept).(flate.Resetter).Reset(r, nil)
	}
	if err != nil {
		*kept = nil
		return nil, err
	}
	if out, err = appendAll(nil, *kept, limit); err != nil {
		return nil, err
	}
	return out, onlyNUL(p, r)
}

// frames reads zstd.
func (x *Inflater) frames(p []byte, limit int) (out []byte, err error) {
	if x.zstd == nil {
		// One goroutine: it reads when it is asked.
		x.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(MaxInflated+1))
		if err != nil {
			return nil, err
		}
	}
	if err := x.zstd.Reset(bytes.NewReader(p)); err != nil {
		return nil, err
	}
	out, err = appendAll(nil, x.zstd, limit)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		err = errBomb
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		err = fmt.Errorf("its window is larger than %d bytes", maxWindow)
	}
	return out, err
}
