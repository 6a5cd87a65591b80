package history

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/mqttetl/mqttetl"
)

// Tail returns the last n records of a selection, from windows that grow
// backwards from its end.
func (h *History) Tail(ctx context.Context, sel mqttetl.Selection, n int) (found []mqttetl.Record, err error) {
	first, last := h.Select(sel).Bounds()
	for width := mqttetl.Seq(4096); last >= first && len(found) < n; width *= 2 {
		part := sel
		part.From, part.To = max(first, last-min(last, width)+1), last
		var recs []mqttetl.Record
		for c := h.Select(part); ; {
			next, err := c.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			recs = append(recs, next...)
			recs = slices.Clone(recs[max(0, len(recs)-n):])
		}
		found = append(recs, found...)
		last = part.From - 1
	}
	return found[max(0, len(found)-n):], nil
}
