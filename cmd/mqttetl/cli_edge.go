package main

import (
	"io"
	"os"

	"github.com/mqttetl/mqttetl/internal/visible"
)

// edge is standard error: what a broker, a server, a file name or a topic has put
// into a text cannot command the terminal there. What is drawn or written for
// programs is written to bare(w).
type edge struct{ w io.Writer }

func (e edge) Write(p []byte) (int, error) {
	if _, err := e.w.Write(visible.Append(nil, p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// bare is the writer that an edge writes to, or w.
func bare(w io.Writer) io.Writer {
	if e, ok := w.(edge); ok {
		return e.w
	}
	return w
}

// file is the file that w writes to.
func file(w io.Writer) (*os.File, bool) {
	f, ok := bare(w).(*os.File)
	return f, ok
}
