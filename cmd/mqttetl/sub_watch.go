package main

import (
	"bytes"
	"fmt"
)

// watch shows each topic on a line of the screen of its own (sub -w).
type watch struct {
	lines map[string]int
	next  int
}

// watchMost bounds the memory: topics beyond it share the last line.
const watchMost = 10000

func newWatch() *watch { return &watch{lines: map[string]int{}, next: 2} }

// begin clears the screen.
func (w *watch) begin(dst []byte, broker string) []byte {
	return fmt.Appendf(dst, "\x1b[2J\x1b[1;1HBroker: %s\n", broker)
}

// place puts what was printed of a message into the line of its topic, and the
// cursor below all of them.
func (w *watch) place(printed, topic []byte) []byte {
	line, ok := w.lines[string(topic)]
	if !ok {
		line = w.next
		if len(w.lines) < watchMost {
			w.lines[string(topic)] = line
			w.next++
		}
	}
	text := bytes.ReplaceAll(bytes.TrimSuffix(printed, []byte("\n")), []byte("\n"), []byte(`\n`))
	out := fmt.Appendf(nil, "\x1b[%d;1H\x1b[K%s", line, text)
	return fmt.Appendf(out, "\x1b[%d;1H", w.next)
}
