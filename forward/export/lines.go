package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/mqttetl/mqttetl"
)

// An Encoder appends the text of one record. It belongs to one goroutine.
type Encoder interface {
	Append(dst []byte, r *mqttetl.Record) []byte
}

// Ahead is how many calls of a Source's Next it takes until nothing of what the
// first of them has returned is in use.
const Ahead = mostWorkers + 2

// mostWorkers is how many encode. While one of them is slow, as many chunks wait
// behind its own to be written, and one more to join them.
const mostWorkers = 4

// Source is where records come from. What Next returns is valid until it has been
// called Ahead times more; io.EOF is the end.
type Source interface {
	Next(ctx context.Context) ([]mqttetl.Record, error)
}

// job is a chunk of records on its way to becoming text.
type job struct {
	recs []mqttetl.Record
	text chan []byte // gets the text once
}

// Lines writes the records of src to w in their order and returns how many it
// has written. Reading, encoding and writing overlap; a few chunks are under
// way at a time.
func Lines(ctx context.Context, w io.Writer, src Source, encoder func() Encoder) (n uint64, err error) {
	workers := min(mostWorkers, max(2, runtime.GOMAXPROCS(0)))
	work, order := make(chan job), make(chan job, workers)
	free := make(chan []byte, 2*workers)
	actors, ctx := errgroup.WithContext(ctx)
	actors.Go(func() error {
		defer close(work)
		defer close(order)
		return split(ctx, src, work, order)
	})
	for range workers {
		actors.Go(func() error {
			e := encoder()
			for j := range work {
				j.text <- encode(e, j.recs, take(free))
			}
			return nil
		})
	}
	actors.Go(func() error {
		for j := range order {
			text := <-j.text
			if _, err := w.Write(text); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			n += uint64(len(j.recs))
			give(free, text)
		}
		return nil
	})
	return n, actors.Wait()
}

// split hands every chunk to a worker and, in order, to the writer.
func split(ctx context.Context, src Source, work, order chan<- job) error {
	for {
		recs, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		j := job{recs, make(chan []byte, 1)}
		select {
		case work <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case order <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func encode(e Encoder, recs []mqttetl.Record, dst []byte) []byte {
	for i := range recs {
		dst = e.Append(dst, &recs[i])
	}
	return dst
}

func take(free chan []byte) []byte {
	select {
	case b := <-free:
		return b[:0]
	default:
		return nil
	}
}

// give keeps a buffer for the next chunk unless it has become very large.
func give(free chan []byte, b []byte) {
	if cap(b) > 16<<20 {
		return
	}
	select {
	case free <- b:
	default:
	}
}
