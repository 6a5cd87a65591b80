package rerun

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
)

// retry tries again what failed in its turn, with all births that are known
// now.
func (r *table) retry(ctx context.Context) error {
	for i := range r.names {
		if r.Routes[i].Decode != "sparkplug_b" {
			continue
		}
		alone := slices.Clone(r.Routes) // in the same table, but no other route takes a message
		for k := range alone {
			if k != i {
				alone[k].Exclude = append(slices.Clone(alone[k].Exclude), "#", "$SYS/#")
			}
		}
		set, err := transform.Compile(alone)
		if err != nil {
			return err
		}
		applier, err := set.Applier(transform.Options{Births: r.births, Retry: true, NoSuspend: true})
		if err != nil {
			return err
		}
		err = r.retryRoute(ctx, r.stages[i], applier)
		applier.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *table) retryRoute(ctx context.Context, stage string, applier *transform.Applier) error {
	var all mqttetl.Selection
	for from := mqttetl.Seq(1); ; {
		letters, err := r.store.Letters(stage, from, 1000)
		if err != nil || len(letters) == 0 {
			return err
		}
		for _, l := range letters {
			from = l.Seq + 1
			recs, _, err := r.reader.Scan(ctx, &all, l.Seq, l.Seq, nil)
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if len(recs) == 0 {
				continue
			}
			applier.Reset()
			applier.ApplyLetter(&recs[0], l.Reason)
			if err := applier.Err(); err != nil {
				return err
			}
			left := ""
			if fs := applier.Failures; len(fs) > 0 {
				if fs[0].Part == "" || applier.Rows[0].Len() == 0 {
					continue
				}
				left = fs[0].DeadLetter().Reason
			}
			if err := r.store.Redeem(ctx, &applier.Rows[0], l, left); err != nil {
				return err
			}
			r.rows += uint64(applier.Rows[0].Len())
		}
	}
}
