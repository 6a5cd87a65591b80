package importer

import (
	"fmt"
	"strconv"
	"strings"
)

// readTwoWays returns why a text of which nothing was said is not taken: it may
// be what another program prints for bytes. name stands before the encodings.
func readTwoWays(v []byte, name string) error {
	switch {
	case pythonBytes(v):
		return fmt.Errorf("bytes as Python prints them with --columns payload=%s:python, this text with payload=%[1]s:text", name)
	case byteaHex(v):
		return fmt.Errorf("bytes as PostgreSQL prints them with --columns payload=%s:hex, this text with payload=%[1]s:text", name)
	}
	return nil
}

// byteaHex says whether a text looks like bytes that PostgreSQL has printed.
func byteaHex(v []byte) bool {
	if len(v) < 4 || len(v)%2 != 0 || v[0] != '\\' || v[1] != 'x' {
		return false
	}
	for _, c := range v[2:] {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// pythonBytes says whether a text looks like bytes that Python has printed.
func pythonBytes(v []byte) bool {
	n := len(v)
	return n >= 3 && v[0] == 'b' && (v[1] == '\'' || v[1] == '"') && v[n-1] == v[1]
}

// pythonEscapes are those of one character.
const pythonEscapes = `n` + "\n" + `r` + "\r" + `t` + "\t" + `\\''""`

// decodePython reads b'…' or b"…"; any other text is the payload.
func decodePython(v []byte) ([]byte, error) {
	if !pythonBytes(v) {
		return v, nil
	}
	out := []byte{}
	for v = v[2 : len(v)-1]; len(v) > 0; v = v[1:] {
		if v[0] != '\\' {
			out = append(out, v[0])
			continue
		}
		if len(v) >= 4 && v[1] == 'x' {
			c, err := strconv.ParseUint(string(v[2:4]), 16, 8)
			if err != nil {
				return nil, fmt.Errorf("%q is no escape of Python's bytes", v[:4])
			}
			out, v = append(out, byte(c)), v[3:]
			continue
		}
		at := -1
		if len(v) >= 2 {
			at = strings.IndexByte(pythonEscapes, v[1])
		}
		if at < 0 || at%2 == 1 && v[1] < ' ' {
			return nil, fmt.Errorf("%.4q is no escape of Python's bytes", v)
		}
		out, v = append(out, pythonEscapes[at|1]), v[1:]
	}
	return out, nil
}
