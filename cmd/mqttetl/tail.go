package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/export"
	"github.com/mqttetl/mqttetl/internal/mosquitto/format"
	"github.com/mqttetl/mqttetl/sink/history"
)

// tailFlags say what is followed, and how it is format.
type tailFlags struct {
	config, archive string
	topics, sources []string
	last, count     int
	formatText      string
	verbose         bool
}

func newTail(std streams) *cobra.Command {
	var f tailFlags
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow what arrives in the log, or in an archive",
		Long: `Tail prints records as they are committed to the log of the running service, or
to the archive that --archive names, until it is interrupted. It needs no broker
and holds nothing up.

By default a record is a line of NDJSON, as export writes it; -v prints topic and
payload, and -F what its letters ask for, as in mqttetl sub.

Exit codes: 0 interrupted, or printed what -C asks for, 65 damaged or foreign
stores, 69 nothing has been recorded yet, 74 an archive that --archive names cannot
be read, 78 bad configuration.`,
		Example: `  mqttetl tail -t 'factory/#' -v
  mqttetl tail --last 10 -C 20
  mqttetl tail -F '%I %t %p'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := f.follower(std)
			if err != nil {
				return usageError{err, cmd}
			}
			if t.history, err = openHistory(f.config, f.archive); err != nil {
				return err
			}
			defer t.history.Close()
			err = t.run(cmd.Context())
			if cmd.Context().Err() != nil {
				return nil // interrupted, which is its end
			}
			return err
		},
	}
	configFlag(cmd, &f.config)
	flags := cmd.Flags()
	flags.StringVar(&f.archive, "archive", "", "follow this archive alone, without a configuration")
	flags.StringArrayVarP(&f.topics, "topic", "t", nil, "topic filter with + and #; may be repeated, any of them")
	flags.StringArrayVar(&f.sources, "source", nil, "name of a source; may be repeated, any of them")
	flags.IntVar(&f.last, "last", 0, "begin with this number of records, the last ones")
	flags.IntVarP(&f.count, "count", "C", 0, "end after this number of records")
	flags.StringVarP(&f.formatText, "format", "F", "", "print by this format")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "print topic and payload")
	return cmd
}

// follower prints what comes.
type follower struct {
	history *history.History
	sel     mqttetl.Selection
	last    int
	left    int // records still to be printed; negative: no end
	out     *bufio.Writer
	err     io.Writer // takes what cannot be printed by the format
	line    []byte
	append  func(dst []byte, r *mqttetl.Record) ([]byte, error)
}

func (f *tailFlags) follower(std streams) (*follower, error) {
	if f.last < 0 || f.count < 0 {
		return nil, errors.New("--last and --count: must not be negative")
	}
	t := &follower{last: f.last, left: -1, out: bufio.NewWriterSize(std.out, 64<<10), err: std.err}
	if f.count > 0 {
		t.left = f.count
	}
	t.sel.Sources = f.sources
	for _, s := range f.topics {
		filter, err := mqttetl.ParseFilter(s)
		if err != nil {
			return nil, named("topic", err)
		}
		t.sel.Topics = append(t.sel.Topics, filter)
	}
	enc := &export.JSON{}
	t.append = func(dst []byte, r *mqttetl.Record) ([]byte, error) { return enc.Append(dst, r), nil }
	if !f.verbose && f.formatText == "" {
		return t, nil
	}
	style := format.Style{Verbose: f.verbose, Visible: isTerminal(std.out)}
	if f.formatText != "" {
		var err error
		if style.Format, err = format.Parse(f.formatText); err != nil {
			return nil, err
		}
	}
	t.append = func(dst []byte, r *mqttetl.Record) ([]byte, error) {
		return style.Append(dst, &format.Message{Message: r.Message, Time: r.When().Local()})
	}
	return t, nil
}

// look is how often it looks for new records: another process writes them, and
// tells nobody.
const look = 50 * time.Millisecond

// run prints until ctx ends or enough was format.
func (t *follower) run(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	next := t.history.Last() + 1
	if t.last > 0 {
		recs, err := t.history.Tail(ctx, t.sel, t.last)
		if err == nil {
			err = t.print(recs)
		}
		if err != nil {
			return err
		}
	}
	for t.left != 0 {
		sel := t.sel
		sel.From = next
		next = t.history.Last() + 1
		for c := t.history.Select(sel); t.left != 0; {
			recs, err := c.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = t.print(recs)
			}
			if err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := t.history.Refresh(); err != nil {
			return err
		}
	}
	return nil
}

// print prints records. One that the format does not fit is told, as sub does.
func (t *follower) print(recs []mqttetl.Record) (err error) {
	for i := range recs {
		if t.left == 0 {
			break
		}
		if t.line, err = t.append(t.line[:0], &recs[i]); err != nil { // what could be printed is there
			fmt.Fprintf(t.err, "mqttetl: record %d: %v\n", recs[i].Seq, err)
		}
		if _, err := t.out.Write(t.line); err != nil {
			return err
		}
		t.left = max(-1, t.left-1)
	}
	return t.out.Flush()
}
