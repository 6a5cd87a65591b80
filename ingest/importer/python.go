package importer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// errPython: a payload that str() has made of bytes, or a text that looks so.
var errPython = errors.New("bytes as Python prints them with --columns payload=NAME:python, this text with payload=NAME:text")

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
