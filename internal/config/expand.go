package config

import (
	"errors"
	"fmt"
	"strings"
)

var errUnset = errors.New("is not set")

// expandError is an error at an offset of the text that was to be expanded.
type expandError struct {
	offset  int
	message string
	unset   bool // it is that a variable is not set
}

func (e *expandError) Error() string { return e.message }

// expand replaces ${VAR} and ${VAR:-default} in s by what env says, and $${ by
// a literal ${. expanded tells whether a variable took part. The values of
// variables and defaults are not expanded again.
func expand(s string, env func(string) (string, bool)) (out string, expanded bool, err error) {
	var b strings.Builder
	for off := 0; off < len(s); {
		rest := s[off:]
		switch {
		case strings.HasPrefix(rest, "$${"):
			b.WriteString("${")
			off += 3
		case strings.HasPrefix(rest, "${"):
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				return "", false, &expandError{off, "${ without a closing }; a literal ${ is written $${", false}
			}
			value, err := lookUp(rest[2:end], env)
			if err != nil {
				return "", false, &expandError{off, err.Error(), errors.Is(err, errUnset)}
			}
			b.WriteString(value)
			expanded = true
			off += end + 1
		default:
			b.WriteByte(s[off])
			off++
		}
	}
	return b.String(), expanded, nil
}

// lookUp resolves what is between ${ and }.
func lookUp(ref string, env func(string) (string, bool)) (string, error) {
	name, fallback, hasFallback := strings.Cut(ref, ":-")
	if !isVariableName(name) {
		return "", errors.New("${ must be followed by the name of an environment variable and }; a literal ${ is written $${") // name may be of a password
	}
	value, ok := env(name)
	switch {
	case hasFallback && value == "":
		return fallback, nil
	case !ok:
		return "", fmt.Errorf("environment variable %s %w; ${%s:-default} gives it a default", name, errUnset, name)
	}
	return value, nil
}

func isVariableName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
