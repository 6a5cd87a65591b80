//go:build !small

package main

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/mqttetl/mqttetl/forward/export"
)

// exportParquet writes all records.
var exportParquet = func(ctx context.Context, w io.Writer, src export.Source) (n uint64, err error) {
	buffered := bufio.NewWriterSize(w, 1<<20)
	p := export.NewParquet(buffered)
	for {
		recs, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return n, errors.Join(p.Close(), buffered.Flush())
		}
		if err == nil {
			err = p.Write(recs)
		}
		if err != nil {
			return n, err
		}
		n += uint64(len(recs))
	}
}
