package format

import "github.com/mqttetl/mqttetl/internal/visible"

// Part is a piece of a format, for programs that read back what it prints:
// literal text, or something about the message.
type Part struct {
	Literal string // if Verb is 0
	Verb    byte   // the letter after %, or @ for a letter of strftime
	Letter  byte   // of strftime
	Left    bool   // the value is at the left of Width bytes
	Pad     byte   // at the other side, where it is at the right
	Width   int    // 0: as long as the value
	// Precision is how much of a string is printed, or how many hexadecimal digits
	// are a group; -1: all.
	Precision int
}

// Parts returns the pieces of a format in their order.
func (f *Format) Parts() []Part {
	parts := make([]Part, len(f.parts))
	for i, p := range f.parts {
		parts[i] = Part{string(p.literal), p.verb, p.letter, p.left, p.pad, p.width, p.precision}
	}
	return parts
}

// text appends what a message holds: as it is or, for a terminal, visible.
func text(dst, s []byte, forTerminal bool) []byte {
	if !forTerminal {
		return append(dst, s...)
	}
	return visible.Append(dst, s)
}
