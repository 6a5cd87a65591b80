// Command bench measures what each stage of mqttetl costs, against a subscriber
// that stores nothing, and holds the results against the targets.
//
//	go run ./bench                 everything, into bench/RESULTS.md
//	go run ./bench -short          the same, smaller, for a look
//	go run ./bench -run 'stages/128/10000|drain'
//	go run ./bench -rates -cell 30s    the rates that people have, into their place in the results
//	go run ./bench -profile /tmp/profiles -run stages/128/10000 -rounds 1
//
// Its invariant: a number counts only if every message that was sent is in
// every store.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl/batch/transform"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	switch {
	case len(args) > 0 && args[0] == "role":
		err = runRole(args[1:], stdin, stdout)
	case len(args) > 0 && args[0] == transform.WorkCommand: // the archive stage of this process has jq routes
		err = transform.Work(stdin, stdout)
	default:
		err = runAll(ctx, args, stdout, stderr)
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintln(stderr, "bench:", err)
	return 1
}

// Length of a run with -short, as a part of the full one.
const shortScale = 0.1

var errUsage = errors.New("usage")

// options are the command line.
type options struct {
	short    bool
	match    *regexp.Regexp
	rounds   int
	dir      string
	out      string
	readme   string
	profiles string
	rates    bool          // only the groups of rates, into their places
	cell     time.Duration // 0: as long as usual
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	var match string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.short, "short", false, "a tenth of the messages, one round, no file")
	f.StringVar(&match, "run", "", "only groups whose name matches this `expression`: stages/<payload>/<window>, mosquitto, rates/<messages a second>, latency, tools, routes, drain, start")
	f.IntVar(&o.rounds, "rounds", 3, "rounds")
	f.StringVar(&o.dir, "dir", "bench/work", "`directory` on a real disk for everything that is stored meanwhile")
	f.StringVar(&o.out, "o", "bench/RESULTS.md", "`file` for the results of all groups; part of them only goes to standard output")
	f.StringVar(&o.readme, "readme", "", "`file` whose table of speed is to be replaced, if the results of all groups are written")
	f.BoolVar(&o.rates, "rates", false, "only the groups rates, in all rounds, into the places of their tables in the files of -o and -readme")
	f.DurationVar(&o.cell, "cell", 0, "for how `long` messages are sent in the groups rates (default 10s)")
	f.StringVar(&o.profiles, "profile", "", "write CPU profiles of mqttetl into this `directory`")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	if o.rates {
		match = "^rates/"
	}
	if o.match, err = regexp.Compile(match); err != nil {
		return o, err
	}
	if o.short {
		o.rounds = 1
	}
	if o.short || match != "" && !o.rates {
		o.out = ""
	}
	return o, nil
}

// runAll measures, prints the results and writes them.
func runAll(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	scale := 1.0
	if o.short {
		scale = shortScale
	}
	begun := time.Now()
	b, err := open(ctx, stderr, o.dir, o.profiles, scale)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if b.cell = cmp.Or(o.cell, b.cell); o.rates {
		b.rateRounds = 0
	}
	m, err := inspect(ctx, b.dir)
	if err != nil {
		return err
	}
	r, err := b.runGroups(o.match, o.rounds)
	if err != nil {
		return err
	}
	var text strings.Builder
	p := report{w: &text, r: r, m: m, rounds: o.rounds, took: time.Since(begun), cell: b.cell, command: strings.Join(append([]string{"go run ./bench"}, args...), " ")}
	p.write()
	if _, err := io.WriteString(stdout, text.String()); err != nil || o.out == "" {
		return err
	}
	return o.keep(&p, text.String())
}

// keep writes the results into the files that are to have them.
func (o *options) keep(p *report, text string) error {
	if o.rates {
		err := putTable(o.out, rateMarks, p.rateSection())
		if err != nil || o.readme == "" {
			return err
		}
		return putTable(o.readme, rateMarks, p.rateSummary())
	}
	if err := os.WriteFile(o.out, []byte(text), 0o644); err != nil || o.readme == "" {
		return err
	}
	return errors.Join(putTable(o.readme, speedMarks, p.summary()), putTable(o.readme, rateMarks, p.rateSummary()))
}
