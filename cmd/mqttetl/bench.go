//go:build !small

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mqttetl/mqttetl/bench/compare"
	benchreport "github.com/mqttetl/mqttetl/bench/report"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// benchFlags say what is compared and how it is told.
type benchFlags struct {
	cfg        compare.Config
	match      string
	rates      []float64
	noProgress bool

	output    string
	csv, html string // files to write
	compare   string // report of an earlier run
}

// secrets are the flags that say how to get into a given server, by the flag
// that gives it.
func (f *benchFlags) secrets() map[string][]string {
	return map[string][]string{"mqtt": {"ca", "cert", "key", "insecure"}, "nats": {"nats-monitor", "creds", "nats-ca", "nats-cert", "nats-key"}}
}

func newBench(std streams) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Compare MQTT, NATS, JetStream and the pipeline between them on this machine",
		Long: `Bench publishes the same payloads by MQTT QoS 0, 1 and 2, NATS core, JetStream in
memory and in files, and through mqttetl itself, one after the other, in rounds,
and counts what arrives: rates, latencies, CPU, bytes and allocations a message,
and what was lost, duplicated or reordered. What an acknowledgement is worth is
part of a case's name.

It starts a Mosquitto and a nats-server if they are installed, else the ones that are
built in; it stops them and deletes their files afterwards. Or it uses --mqtt and
--nats, where it publishes below mqttetl-bench/ only, and creates and deletes its own
stream.
Lists such as --size 128,1024 make a case of every combination. Open loop
(--throughput) and the instrument's own cases have half of --duration.

Exit codes: 0 every case was measured, 1 one was not or Ctrl-C ended it early, 65
--compare names no report, 69 a given server cannot be reached, 77 it refuses the
login.`,
		Example: `  mqttetl bench --duration 2s
  mqttetl bench --case 'mqtt/qos1|jetstream/file' --rounds 5
  mqttetl bench --size 16,128,1024 --case '^nats/core$' --duration 1s -o json > sizes.json
  mqttetl bench --size 16,128,1024 --case '^nats/core$' --duration 1s --compare sizes.json
  mqttetl bench --duration 2s --html report.html --csv report.csv
  mqttetl bench --mqtt mqtt://127.0.0.1:1883 --nats nats://127.0.0.1:4222 --clients 1,10`,
		Args: noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			err := f.check()
			if err == nil {
				err = f.checkServers(cmd.Flags())
			}
			if err != nil {
				return usageError{err, cmd}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), std) },
	}
	f.add(cmd)
	cmd.SetFlagErrorFunc(benchFlagError)
	cmd.AddCommand(newBenchServe(std))
	return cmd
}

// benchFlagError is flagError, which knows the lists of bench too.
func benchFlagError(cmd *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		wants := map[string]string{"intSlice": "whole numbers", "float64Slice": "numbers"}
		if want := wants[invalid.GetFlag().Value.Type()]; want != "" {
			return fmt.Errorf("--%s must be %s with commas, not %q", invalid.GetFlag().Name, want, invalid.GetValue())
		}
	}
	return flagError(cmd, err)
}

func (f *benchFlags) add(cmd *cobra.Command) {
	flags, c := cmd.Flags(), &f.cfg
	flags.StringVar(&c.MQTT, "mqtt", "", "URL of a broker (default: one is started)")
	flags.StringVar(&c.MQTTTLS.CA, "ca", "", "of --mqtt: PEM `file` of authorities to trust")
	flags.StringVar(&c.MQTTTLS.Cert, "cert", "", "of --mqtt: PEM `file` of the client certificate")
	flags.StringVar(&c.MQTTTLS.Key, "key", "", "of --mqtt: PEM `file` of its key")
	flags.BoolVar(&c.MQTTTLS.AnyName, "insecure", false, "of --mqtt: the broker's certificate may be for another host")
	flags.StringVar(&c.NATS, "nats", "", "URL of a NATS server (default: one is started)")
	flags.StringVar(&c.Monitor, "nats-monitor", "", "URL of its monitoring port (default: port 8222 of its host)")
	flags.StringVar(&c.Creds, "creds", "", "of --nats: credentials `file`")
	flags.StringVar(&c.NATSTLS.CA, "nats-ca", "", "of --nats: PEM `file` of authorities to trust")
	flags.StringVar(&c.NATSTLS.Cert, "nats-cert", "", "of --nats: PEM `file` of the client certificate")
	flags.StringVar(&c.NATSTLS.Key, "nats-key", "", "of --nats: PEM `file` of its key")
	flags.DurationVar(&c.Duration, "duration", 5*time.Second, "how long a case publishes in a round")
	flags.IntVar(&c.Rounds, "rounds", 3, "rounds of all cases")
	flags.StringVar(&f.match, "case", "", "only cases whose id matches this `expression`, such as mqtt/qos1 or ^jetstream")
	flags.IntSliceVar(&c.Sizes, "size", []int{128}, "bytes of payload, at least 16")
	flags.IntSliceVar(&c.Clients, "clients", []int{1}, "publishers, each with a subscriber of its own")
	flags.IntSliceVar(&c.FanIn, "fan-in", nil, "publishers with one subscriber for all")
	flags.IntSliceVar(&c.FanOut, "fan-out", nil, "subscribers of one publisher")
	flags.IntSliceVar(&c.Inflight, "inflight", []int{1000}, "unconfirmed messages of a publisher at most")
	flags.IntSliceVar(&c.Topics, "topics", []int{1}, "topics of a publisher")
	flags.Float64SliceVar(&f.rates, "throughput", []float64{1000}, "`rates` in messages a second in open loop, of all publishers together; 0: no open loop")
	flags.Lookup("throughput").DefValue = "[1000]"
	flags.BoolVar(&c.EMQTT, "emqtt-header", false, "begin payloads as emqtt-bench's cnt64,ts does; its times are milliseconds")
	flags.StringVar(&c.Dir, "dir", "", "`directory` for the files of servers, on the disk that counts (default: that for temporary files)")
	flags.StringVarP(&f.output, "output", "o", "table", "output format: table, json, csv")
	flags.StringVar(&f.csv, "csv", "", "`file` for the numbers of all cases and rounds")
	flags.StringVar(&f.html, "html", "", "`file` for the report with charts, that needs no other")
	flags.StringVar(&f.compare, "compare", "", "`file` of an earlier run with -o json: what has changed, and whether beyond the noise")
	flags.BoolVar(&f.noProgress, "no-progress", false, "no line on a terminal that tells how far it has come")
}

// check completes the flags.
func (f *benchFlags) check() (err error) {
	c := &f.cfg
	if c.Match, err = regexp.Compile(f.match); err != nil {
		return fmt.Errorf("--case: %w", err)
	}
	switch {
	case !slices.Contains([]string{"table", "json", "csv"}, f.output):
		return fmt.Errorf("--output must be one of table, json, csv, not %q", f.output)
	case c.Duration < 100*time.Millisecond:
		return fmt.Errorf("--duration must be at least 100ms, not %v", c.Duration)
	case c.Rounds < 1:
		return fmt.Errorf("--rounds must be at least 1, not %d", c.Rounds)
	case len(c.Clients)+len(c.FanIn)+len(c.FanOut) == 0:
		return errors.New("--clients, --fan-in and --fan-out name nobody who publishes")
	}
	for _, l := range []struct {
		name     string
		values   []int
		low, top int
	}{
		{"size", c.Sizes, 16, 1 << 28}, {"clients", c.Clients, 1, 1 << 16}, {"fan-in", c.FanIn, 1, 1 << 16}, {"fan-out", c.FanOut, 1, 1 << 16},
		{"inflight", c.Inflight, 1, 65535}, {"topics", c.Topics, 1, 1 << 20},
	} {
		for _, v := range l.values {
			if v < l.low || v > l.top {
				return fmt.Errorf("--%s must be from %d to %d, not %d", l.name, l.low, l.top, v)
			}
		}
		if len(l.values) == 0 && !strings.HasPrefix(l.name, "fan") && l.name != "clients" {
			return fmt.Errorf("--%s needs a number", l.name)
		}
	}
	for _, r := range f.rates {
		if r < 0 || r > 1e9 {
			return fmt.Errorf("--throughput must be from 0 to 1e9, not %g", r)
		}
		if r > 0 {
			c.Rates = append(c.Rates, r)
		}
	}
	if c.Cases() == 0 {
		return fmt.Errorf("--case matches nothing: %s", f.match)
	}
	return nil
}

// checkServers checks what is said of given servers.
func (f *benchFlags) checkServers(flags *pflag.FlagSet) error {
	c := &f.cfg
	for _, server := range []string{"mqtt", "nats"} {
		for _, name := range f.secrets()[server] {
			if flags.Changed(name) && !flags.Changed(server) {
				return fmt.Errorf("--%s is for a given server: which one says --%s", name, server)
			}
		}
	}
	if (c.MQTTTLS.Cert == "") != (c.MQTTTLS.Key == "") {
		return errors.New("--cert and --key belong together")
	}
	if (c.NATSTLS.Cert == "") != (c.NATSTLS.Key == "") {
		return errors.New("--nats-cert and --nats-key belong together")
	}
	if c.MQTT != "" {
		u, err := dial.URL(c.MQTT)
		if err == nil {
			err = c.MQTTTLS.Fits(u)
		}
		if err != nil {
			return fmt.Errorf("--mqtt: %w", err)
		}
	}
	if c.NATS != "" {
		u, err := url.Parse(c.NATS)
		if err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" {
			return fmt.Errorf("--nats %s: must be nats://host or tls://host", secret.URL(c.NATS))
		}
	}
	return nil
}

func (f *benchFlags) run(ctx context.Context, std streams) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f.cfg.Self, f.cfg.Version, f.cfg.Command = self, buildVersion().Version, commandLine(os.Args[1:])
	was, err := f.earlier()
	if err != nil {
		return err
	}
	files, err := f.open()
	if err != nil {
		return err
	}
	line := newProgressLine(std.err, f.noProgress)
	f.cfg.Progress = func(p compare.Progress) {
		line.show(func(elapsed time.Duration) string { return benchProgress(p, elapsed) })
	}
	r, err := compare.Run(ctx, f.cfg)
	line.clear()
	if err != nil {
		return natsCode(codeOf(err))
	}
	err = f.write(std.out, r)
	if err == nil && was != nil {
		to := std.out
		if f.output != "table" { // which is for programs
			to = bare(std.err)
		}
		err = benchreport.Compare(to, was, r)
	}
	for _, file := range files {
		err = errors.Join(err, file.write(r))
	}
	return errors.Join(err, benchFailure(r))
}

func benchProgress(p compare.Progress, elapsed time.Duration) string {
	return fmt.Sprintf("%v  round %d of %d, case %d of %d: %s: %d sent, %d delivered",
		elapsed.Round(time.Second), p.Round, p.Rounds, p.Case, p.Cases, p.Name, p.Sent, p.Delivered)
}

// write prints the report.
func (f *benchFlags) write(w io.Writer, r *compare.Report) error {
	switch f.output {
	case "json":
		return benchreport.JSON(w, r)
	case "csv":
		return benchreport.CSV(w, r)
	}
	return benchreport.Table(w, r, isTerminal(w) && os.Getenv("NO_COLOR") == "")
}

// earlier is the report to compare with, nil if there is none.
func (f *benchFlags) earlier() (*compare.Report, error) {
	if f.compare == "" {
		return nil, nil
	}
	file, err := os.Open(f.compare)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	r, err := benchreport.Read(file)
	if err != nil {
		return nil, codedError{fmt.Errorf("--compare %s: %w", f.compare, err), exitDamaged}
	}
	return r, nil
}

// benchFile is a file for a report. It is opened before the run, so that a name
// that cannot be written costs no run, and emptied after it.
type benchFile struct {
	*os.File
	form func(io.Writer, *compare.Report) error
}

func (f *benchFlags) open() (files []benchFile, err error) {
	for _, v := range []struct {
		name string
		form func(io.Writer, *compare.Report) error
	}{{f.csv, benchreport.CSV}, {f.html, benchreport.HTML}} {
		if v.name == "" {
			continue
		}
		file, err := os.OpenFile(v.name, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		files = append(files, benchFile{file, v.form})
	}
	return files, nil
}

func (f benchFile) write(r *compare.Report) error {
	return errors.Join(f.Truncate(0), f.form(f, r), f.Close())
}

// benchFailure is why a run does not end with 0. What failed where is in
// the report.
func benchFailure(r *compare.Report) error {
	failed := 0
	for _, c := range r.Cases {
		if c.Error != "" {
			failed++
		}
	}
	switch {
	case r.Interrupted:
		return context.Canceled
	case failed > 0:
		return fmt.Errorf("%d of %d cases could not be measured", failed, len(r.Cases))
	}
	return nil
}

// plain is what a shell takes as it is.
var plain = regexp.MustCompile(`^[-A-Za-z0-9_./:,=@%+]+$`)

// commandLine is what to type to run this again, but for passwords.
func commandLine(args []string) string {
	words := []string{"mqttetl"}
	for _, a := range args {
		if strings.Contains(a, "://") {
			a = secret.URL(a)
		}
		if !plain.MatchString(a) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// newBenchServe is what bench runs this program as: a server that is built in.
func newBenchServe(std streams) *cobra.Command {
	return &cobra.Command{
		Use:    "serve ROLE DIR",
		Short:  "Be a server of bench",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return compare.Serve(cmd.Context(), args[0], args[1], std.in, std.out)
		},
	}
}
