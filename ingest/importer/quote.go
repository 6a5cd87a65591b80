package importer

import (
	"bytes"
	"errors"
)

// openQuote says whether a line ends within a quoted field, which then goes on in
// the next one; within says that it began in one. bad: there is text after a
// closing quote, so that one of the quotes was none.
func openQuote(line []byte, sep byte, within bool) (open, bad bool) {
	if bytes.IndexByte(line, '"') < 0 {
		return within, false
	}
	for {
		if !within {
			if len(line) == 0 || line[0] != '"' { // a quote elsewhere is a character
				at := bytes.IndexByte(line, sep)
				if at < 0 {
					return false, false
				}
				line = line[at+1:]
				continue
			}
			line = line[1:]
		}
		at := bytes.IndexByte(line, '"')
		if at < 0 {
			return true, false
		}
		line = line[at+1:]
		switch {
		case len(line) == 0 || string(line) == "\r":
			return false, false
		case line[0] == '"':
			line, within = line[1:], true
		case line[0] != sep:
			return false, true
		default:
			line, within = line[1:], false
		}
	}
}

// splitCSV appends the fields of a line (RFC 4180), which sep stands between.
func splitCSV(dst [][]byte, line []byte, sep byte) ([][]byte, error) {
	for {
		if len(line) == 0 || line[0] != '"' {
			at := bytes.IndexByte(line, sep)
			if at < 0 {
				return append(dst, line), nil
			}
			dst, line = append(dst, line[:at:at]), line[at+1:]
			continue
		}
		field, rest, err := quoted(line[1:])
		if err != nil {
			return dst, err
		}
		dst = append(dst, field)
		if len(rest) == 0 {
			return dst, nil
		}
		if rest[0] != sep {
			return dst, errors.New("text after a closing quote")
		}
		line = rest[1:]
	}
}

// quoted reads a field after its opening quote, and the closing one.
func quoted(s []byte) (field, rest []byte, err error) {
	for i := 0; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			return doubled(s, i)
		}
		return s[:i:i], s[i+1:], nil
	}
	return nil, nil, errors.New("a quote that does not close")
}

// doubled copies the rest of the field, from its first doubled quote.
func doubled(s []byte, i int) (field, rest []byte, err error) {
	field = append(field, s[:i]...)
	for ; i < len(s); i++ {
		if s[i] == '"' {
			if i+1 >= len(s) || s[i+1] != '"' {
				return field, s[i+1:], nil
			}
			i++
		}
		field = append(field, s[i])
	}
	return nil, nil, errors.New("a quote that does not close")
}
