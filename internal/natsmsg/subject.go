package natsmsg

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"unicode/utf8"
)

// MaxSubject bounds a subject in bytes, prefix included. The server reads
// subject, reply and sizes into one control line of at most 4 KiB, and every
// hop to a consumer (routes, leaf nodes) adds its own words to that line.
const MaxSubject = 1024

// shortMark begins the last token of a shortened subject. No token of an
// unshortened subject begins with it, because there a '%' stands alone or is
// followed by two hexadecimal digits.
const shortMark = "%~"

// ErrShortened: the subject holds a hash in place of the topic, which stands
// in the Mqtt-Topic header of the message.
var ErrShortened = errors.New("the subject is shortened, the topic is in the Mqtt-Topic header")

// ErrSubject: a subject that no topic is mapped to.
var ErrSubject = errors.New("not the subject of a topic")

const upperHex = "0123456789ABCDEF"

// AppendSubject appends the subject under which a message of the topic is
// published. The mapping is one-to-one; Topic is its inverse.
//
//	prefix + "." + topic, with "/" as "."
//	an empty level is the token "%"
//	". * > % space", control bytes (0x00..0x1f, 0x7f), bytes that are not
//	UTF-8, and U+FFFD, which NATS takes for such bytes: each byte as %XX
//
// A subject that would be longer than 1,024 bytes is shortened: as many whole
// levels as fit, then one token "%~" + SHA-256 of the whole topic in lower-case
// hexadecimal. Wildcard subscriptions on the leading levels still match.
func AppendSubject(dst []byte, prefix string, topic []byte) (subject []byte, shortened bool) {
	start := len(dst)
	dst = append(dst, prefix...)
	dst = append(dst, '.')
	level := len(dst)
	if dst, plain := appendPlain(dst, topic); plain && len(dst)-start <= MaxSubject {
		return dst, false
	}
	for i := 0; i < len(topic); {
		c := topic[i]
		switch {
		case tokenByte[c]:
			dst = append(dst, c)
			i++
		case c == '/':
			if len(dst) == level {
				dst = append(dst, '%')
			}
			dst = append(dst, '.')
			level = len(dst)
			i++
		default:
			var n int
			dst, n = appendRune(dst, topic[i:])
			i += n
		}
		if len(dst)-start > MaxSubject {
			return shorten(dst, start, topic), true
		}
	}
	if len(dst) == level {
		dst = append(dst, '%')
	}
	if len(dst)-start > MaxSubject {
		return shorten(dst, start, topic), true
	}
	return dst, false
}

// appendPlain appends a topic whose levels are all tokens as they stand, as
// nearly all are. Otherwise plain is false.
func appendPlain(dst, topic []byte) (subject []byte, plain bool) {
	n := len(dst)
	dst = append(dst, topic...)
	before := byte('/')
	for i, c := range dst[n:] {
		if c == '/' && before != '/' {
			dst[n+i] = '.'
		} else if !tokenByte[c] {
			return nil, false
		}
		before = c
	}
	return dst, before != '/'
}

// subjects remembers the subjects of topics that come again and again, for one
// prefix.
type subjects struct {
	seed    maphash.Seed
	entries []knownSubject // by the topic's hash; nil: none yet
}

// knownSubject is a topic and its subject.
type knownSubject struct {
	topic, subject []byte
	short          bool
}

const (
	subjectEntries = 1024 // a power of two
	longestEntry   = 256  // bytes of a topic that is remembered
)

// append is AppendSubject.
func (s *subjects) append(dst []byte, prefix string, topic []byte) (subject []byte, shortened bool) {
	if len(topic) > longestEntry {
		return AppendSubject(dst, prefix, topic)
	}
	if s.entries == nil {
		s.seed, s.entries = maphash.MakeSeed(), make([]knownSubject, subjectEntries)
	}
	e := &s.entries[maphash.Bytes(s.seed, topic)%subjectEntries]
	if e.subject == nil || !bytes.Equal(e.topic, topic) {
		e.topic = append(e.topic[:0], topic...)
		e.subject, e.short = AppendSubject(e.subject[:0], prefix, topic)
	}
	return append(dst, e.subject...), e.short
}

// Subject is AppendSubject for callers that want a string.
func Subject(prefix string, topic []byte) (subject string, shortened bool) {
	b, short := AppendSubject(nil, prefix, topic)
	return string(b), short
}

// Topic computes the topic back from a subject made by AppendSubject with the
// same prefix. The error wraps ErrShortened or ErrSubject.
func Topic(prefix, subject string) ([]byte, error) {
	rest, ok := strings.CutPrefix(subject, prefix+".")
	if !ok {
		return nil, fmt.Errorf("%q: %w with prefix %q", subject, ErrSubject, prefix)
	}
	if strings.HasPrefix(rest[strings.LastIndexByte(rest, '.')+1:], shortMark) {
		return nil, fmt.Errorf("%q: %w", subject, ErrShortened)
	}
	topic := make([]byte, 0, len(rest))
	for i, token := range strings.Split(rest, ".") {
		if i > 0 {
			topic = append(topic, '/')
		}
		if token == "%" {
			continue
		}
		topic, ok = appendUnescaped(topic, token)
		if !ok {
			return nil, fmt.Errorf("%q: %w: token %q", subject, ErrSubject, token)
		}
	}
	// What decodes but is not what AppendSubject writes (%41 for A, an empty
	// token) is not the subject of this topic.
	if again, short := AppendSubject(nil, prefix, topic); short || string(again) != subject {
		return nil, fmt.Errorf("%q: %w", subject, ErrSubject)
	}
	return topic, nil
}

// tokenByte says which single bytes stand for themselves in a subject token.
var tokenByte = func() (t [256]bool) {
	for c := '!'; c < 0x7f; c++ {
		t[c] = true
	}
	for _, c := range "./*>%" {
		t[c] = false
	}
	return t
}()

// appendRune appends the first character of p: as it is if it is a character
// beyond ASCII, else byte by byte as %XX. It returns how many bytes it took.
func appendRune(dst, p []byte) ([]byte, int) {
	r, n := utf8.DecodeRune(p)
	if r >= utf8.RuneSelf && r != utf8.RuneError {
		return append(dst, p[:n]...), n
	}
	for _, c := range p[:n] {
		dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
	}
	return dst, n
}

// shorten replaces the end of the subject in dst[start:] by the topic's hash.
func shorten(dst []byte, start int, topic []byte) []byte {
	keep := start + MaxSubject - len(shortMark) - hex.EncodedLen(sha256.Size)
	dst = dst[:bytes.LastIndexByte(dst[:keep], '.')+1]
	sum := sha256.Sum256(topic)
	return hex.AppendEncode(append(dst, shortMark...), sum[:])
}

// appendUnescaped appends s with every %XX as the byte it stands for.
func appendUnescaped(dst []byte, s string) (_ []byte, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			dst = append(dst, s[i])
			continue
		}
		if i+2 >= len(s) {
			return dst, false
		}
		hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
		if hi < 0 || lo < 0 {
			return dst, false
		}
		dst = append(dst, byte(hi<<4|lo))
		i += 2
	}
	return dst, true
}

// EscapeTopic makes one or more levels of a topic tokens of a subject, as
// AppendSubject does.
func EscapeTopic(levels string) string {
	subject, _ := AppendSubject(nil, "x", []byte(levels))
	return string(subject[len("x."):])
}

// Reserved says that a subject is one of those in which the server itself speaks.
func Reserved(subject string) bool {
	return strings.HasPrefix(subject, "$") || subject == "_INBOX" || strings.HasPrefix(subject, "_INBOX.")
}

// maxPrefix leaves the better part of a subject to the topic.
const maxPrefix = 128

// CheckPrefix refuses what is not one or more tokens with which the subjects of
// records can begin.
func CheckPrefix(prefix string) error {
	if Reserved(prefix) {
		return fmt.Errorf("%q: subjects that begin with $ or _INBOX are reserved by the server", prefix)
	}
	if len(prefix) > maxPrefix {
		return fmt.Errorf("must not be longer than %d bytes", maxPrefix)
	}
	for token := range strings.SplitSeq(prefix, ".") {
		if token == "" {
			return fmt.Errorf("%q must be tokens with a . between them, and has an empty token", prefix)
		}
		if strings.ContainsFunc(token, func(r rune) bool { return r >= utf8.RuneSelf || !tokenByte[byte(r)] }) {
			return fmt.Errorf("%q must be tokens of printable ASCII without / * > and %%, with a . between them", prefix)
		}
	}
	return nil
}
