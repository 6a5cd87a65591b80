package main

import (
	"strings"
	"unicode"
)

// asking are the words that statements begin with which ask. Others may write
// beside an archive that itself cannot be changed, as ATTACH and VACUUM INTO do.
var asking = []string{"select", "with", "values", "explain", "pragma"}

// firstWord is the word that an SQL text begins with, in small letters.
func firstWord(sql string) string {
	for sql != "" {
		n := blank(sql)
		if n == 0 && sql[0] == ';' {
			n = 1
		}
		if n == 0 {
			break
		}
		sql = sql[n:]
	}
	end := strings.IndexFunc(sql, func(r rune) bool { return !unicode.IsLetter(r) })
	if end < 0 {
		end = len(sql)
	}
	return strings.ToLower(sql[:end])
}

// behindFirst is what stands behind the first statement of an SQL text, without
// spaces and comments: SQLite would run it too, and only its rows would come.
func behindFirst(sql string) string {
	rest, begun, ended := sql, false, false
	for rest != "" {
		if n := blank(rest); n > 0 {
			rest = rest[n:]
			continue
		}
		switch c := rest[0]; {
		case c == ';':
			ended, rest = begun, rest[1:]
		case ended:
			return rest
		case strings.IndexByte("'\"`[", c) >= 0:
			begun, rest = true, behindQuote(rest)
		default:
			begun, rest = true, rest[1:]
		}
	}
	return ""
}

// blank is the length of the space or the comment that text begins with.
func blank(text string) int {
	until := func(end string) int {
		if i := strings.Index(text[2:], end); i >= 0 {
			return 2 + i + len(end)
		}
		return len(text)
	}
	switch {
	case strings.IndexByte(" \t\r\n\f", text[0]) >= 0:
		return 1
	case strings.HasPrefix(text, "--"):
		return until("\n")
	case strings.HasPrefix(text, "/*"):
		return until("*/")
	}
	return 0
}

// behindQuote is what follows the string or name that text begins with. A quote
// that is doubled within it begins the next one, which is as good.
func behindQuote(text string) string {
	end := text[0]
	if end == '[' {
		end = ']'
	}
	_, rest, _ := strings.Cut(text[1:], string(end))
	return rest
}
