package archive

import (
	"strings"
	"unicode"
)

// Asking are the words that statements begin with which ask. Others may write
// beside an archive that itself cannot be changed, as ATTACH and VACUUM INTO do.
var Asking = []string{"select", "with", "values", "explain", "pragma"}

// Statement returns the word that the first statement of an SQL text begins with,
// in small letters, and what follows that statement, without spaces and comments:
// SQLite would run it too, and only its rows would come.
func Statement(sql string) (word, rest string) {
	rest = sql
	begun, ended := false, false
	for rest != "" {
		if n := blank(rest); n > 0 {
			rest = rest[n:]
			continue
		}
		if rest[0] == ';' {
			ended, rest = begun, rest[1:]
			continue
		}
		if ended {
			return word, rest
		}
		if !begun {
			begun, word = true, leadingWord(rest)
		}
		if strings.IndexByte("'\"`[", rest[0]) >= 0 {
			rest = afterQuote(rest)
		} else {
			rest = rest[1:]
		}
	}
	return word, ""
}

func leadingWord(text string) string {
	end := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })
	if end < 0 {
		end = len(text)
	}
	return strings.ToLower(text[:end])
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

// afterQuote is what follows the string or name that text begins with. A quote
// that is doubled within it begins the next one, which is as good.
func afterQuote(text string) string {
	end := text[0]
	if end == '[' {
		end = ']'
	}
	_, rest, _ := strings.Cut(text[1:], string(end))
	return rest
}
