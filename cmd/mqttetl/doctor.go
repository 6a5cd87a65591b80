package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl/internal/doctor"
	"github.com/mqttetl/mqttetl/internal/reporters"
)

func newDoctor(std streams) *cobra.Command {
	var path string
	var format outputFormat
	var probe bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Connect to the brokers and NATS of a configuration and say what is wrong",
		Long: `Doctor connects to each broker and to NATS as run does, with a client id of its
own, measures the disk, and checks what else decides whether messages can be lost. It
publishes nothing, and changes nothing except that it writes a file of a megabyte next
to the log for a moment. It may run while the service runs: then it says what the
service writes, which takes five seconds. Run it as the user of the service, who must
be able to read and write the same files.

With --probe it also measures the window that each broker really grants and
how many messages a second go through it. For that it publishes a tenth more
messages than receive_maximum, and then 5,000, to mqttetl/doctor/… on each broker:
subscribers of # get them, and a running service with such a filter records them.

Exit codes: 0 no failure (there may be warnings), 1 a failure, 78 bad
configuration.`,
		Example: `  mqttetl doctor -c mqttetl.yaml
  mqttetl doctor -c mqttetl.yaml --probe
  mqttetl doctor -c mqttetl.yaml -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			o := doctor.Options{Path: path, Probe: probe}
			if cfg.HTTP != nil {
				o.Metrics = func(ctx context.Context) (io.ReadCloser, error) {
					return reporters.Get(ctx, cfg.HTTP.Listen, "/metrics")
				}
			}
			found := doctor.Examine(cmd.Context(), cfg, o)
			if err := format.write(std.out, doctorReport(found)); err != nil {
				return err
			}
			if err := cmd.Context().Err(); err != nil {
				return err // what was found so far has been said
			}
			if n := doctor.Count(found, doctor.Fail); n > 0 {
				return fmt.Errorf("%d of %d checks failed", n, len(found))
			}
			return nil
		},
	}
	configFlag(cmd, &path)
	outputFlag(cmd, &format)
	cmd.Flags().BoolVar(&probe, "probe", false, "measure each broker's window and rate with messages to mqttetl/doctor/…")
	return cmd
}

// doctorReport shows what the doctor has found.
func doctorReport(all []doctor.Finding) report {
	failures := doctor.Count(all, doctor.Fail)
	r := report{
		document: map[string]any{
			"ok": failures == 0, "warnings": doctor.Count(all, doctor.Warn), "failures": failures, "checks": all,
		},
		header: []string{"level", "part", "check", "result", "what to do"},
	}
	for _, f := range all {
		r.rows = append(r.rows, []string{f.Level, f.Part, f.Check, f.Text, f.Advice})
	}
	return r
}
