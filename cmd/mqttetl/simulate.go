//go:build !small

package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/mosquitto"
	"github.com/mqttetl/mqttetl/internal/secret"
	"github.com/mqttetl/mqttetl/internal/simulate"
)

//go:embed scenario.yaml
var exampleScenario string

// simulateFlags say what is sent where.
type simulateFlags struct {
	to, stream, subjectPrefix string
	version                   mosquitto.Version
	qos                       int
	connections               int
	creds, ca, cert, key      string

	group    simulate.Group
	scenario string // file
	example  bool
	seed     uint64
	start    string
	duration time.Duration
	count    uint64
	prefix   string
	quiet    bool
}

func newSimulate(std streams) *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use:   "simulate --to URL",
		Short: "Publish as devices do: load for a broker or NATS, without measuring",
		Long: `Simulate publishes what devices of the given profiles send, at a rate, with jitter
and in bursts, until --count or --duration is reached or Ctrl-C, and counts what
was confirmed:

  --to mqtt://host:1883                  QoS 1 unless --qos says otherwise; mqtts, ws, wss
  --to nats://host:4222                  core NATS: read by the server
  --to nats://host:4222 --stream NAME    JetStream: PubAck of each message

Profiles, several with commas between them, or all in turn:

` + profileHelp() + `
Readings move as those of sensors do. The same seed and --start make the same
messages, byte for byte. --scenario FILE says all this in YAML, for groups of
devices; --example prints such a file.

Exit codes: 0 everything was confirmed, 1 it was not, 69 not reachable or lost,
77 login refused, 78 a wrong scenario.`,
		Example: `  mqttetl simulate --to mqtt://127.0.0.1:1883 --profile tasmota --devices 50 --rate 100 --duration 10s
  mqttetl simulate --to nats://127.0.0.1:4222 --profile sparkplug,industrial --count 1000 --rate 0
  mqttetl simulate --to nats://127.0.0.1:4222 --stream LOAD --subject-prefix load --count 1000 --rate 500
  mqttetl simulate --example > scenario.yaml
  mqttetl simulate --to mqtt://127.0.0.1:1883 --scenario scenario.yaml --duration 5s`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.example {
				_, err := io.WriteString(std.out, exampleScenario)
				return err
			}
			s, err := f.check(cmd)
			if err != nil {
				return err
			}
			return runSimulate(cmd.Context(), &f, s, std)
		},
	}
	f.add(cmd.Flags())
	return cmd
}

// profileHelp is the list of profiles.
func profileHelp() string {
	var b strings.Builder
	names, about := simulate.Profiles()
	for i, name := range names {
		first, rest, _ := strings.Cut(about[i], ": ")
		fmt.Fprintf(&b, "  %-12s %s", name, first)
		if rest != "" {
			fmt.Fprintf(&b, ":\n  %-12s %s", "", rest)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (f *simulateFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.to, "to", "", "mqtt://, mqtts://, ws://, wss:// or nats:// URL, which may have user and password")
	flags.StringVar(&f.group.Profile, "profile", simulate.All, "profiles of the devices")
	flags.StringVar(&f.scenario, "scenario", "", "YAML file with groups of devices")
	flags.BoolVar(&f.example, "example", false, "print an example scenario, and end")
	flags.IntVar(&f.group.Devices, "devices", 10, "simulated devices")
	flags.Float64Var(&f.group.Rate, "rate", 10, "messages a second of all devices together; 0: as fast as they are taken")
	flags.Float64Var(&f.group.Jitter, "jitter", 0.1, "how far a wait may be from the mean, 0 to 1 of it")
	flags.IntVar(&f.group.Burst, "burst", 0, "readings that a device sends at once, the rate being the same (default: as the profile has it)")
	flags.Uint64Var(&f.seed, "seed", 1, "another seed makes other readings")
	flags.StringVar(&f.start, "start", "", "time in the first payloads, RFC 3339 (default: now)")
	flags.DurationVar(&f.duration, "duration", 0, "how long (default: until Ctrl-C)")
	flags.Uint64Var(&f.count, "count", 0, "messages in all; 0: no end")
	flags.StringVar(&f.prefix, "prefix", "", "topic levels before every topic")
	flags.IntVar(&f.qos, "qos", 1, "MQTT QoS")
	flags.IntVar(&f.connections, "connections", 1, "MQTT connections; a device keeps to one")
	mosquitto.AddVersion(flags, &f.version)
	flags.StringVar(&f.stream, "stream", "", "JetStream stream; created if absent")
	flags.StringVar(&f.subjectPrefix, "subject-prefix", "mqtt", "first tokens of every NATS subject")
	flags.StringVar(&f.creds, "creds", "", "NATS credentials file")
	flags.StringVar(&f.ca, "ca", "", "PEM file of authorities to trust")
	flags.StringVar(&f.cert, "cert", "", "PEM file of the client certificate")
	flags.StringVar(&f.key, "key", "", "PEM file of the certificate's key")
	flags.BoolVar(&f.quiet, "no-progress", false, "no progress on a terminal")
}

// mismatch is what does not fit together, nil if all does.
func (f *simulateFlags) mismatch(flags *pflag.FlagSet) error {
	mqtt := f.kind() == "mqtt"
	if f.kind() == "" {
		return fmt.Errorf("--to %q: must be mqtt://… or nats://…", secret.URL(f.to))
	}
	for name, ofMQTT := range map[string]bool{
		"qos": true, "connections": true, "mqtt-version": true, "stream": false, "subject-prefix": false, "creds": false,
	} {
		if flags.Changed(name) && mqtt != ofMQTT {
			return fmt.Errorf("--%s is for %s, --to is %s", name, choose(ofMQTT, "MQTT", "NATS"), secret.URL(f.to))
		}
	}
	for _, name := range []string{"profile", "devices", "rate", "jitter", "burst"} {
		if f.scenario != "" && flags.Changed(name) {
			return fmt.Errorf("--%s: with --scenario the groups of the file say it", name)
		}
	}
	switch {
	case f.qos < 0 || f.qos > 2:
		return fmt.Errorf("--qos %d: must be 0, 1 or 2", f.qos)
	case f.connections < 1 || f.connections > 10000:
		return fmt.Errorf("--connections must be from 1 to 10000, not %d", f.connections)
	case f.duration < 0:
		return fmt.Errorf("--duration must not be negative, it is %v", f.duration)
	case (f.cert == "") != (f.key == ""):
		return errors.New("--cert and --key belong together")
	}
	if !mqtt {
		return nil
	}
	u, err := dial.URL(f.to)
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	return (&dial.TLS{CA: f.ca, Cert: f.cert}).Fits(u)
}

func (f *simulateFlags) kind() string {
	u, err := url.Parse(f.to)
	if err != nil || u.Host == "" {
		return ""
	}
	switch u.Scheme {
	case "mqtt", "mqtts", "tcp", "ssl", "tls", "ws", "wss":
		return "mqtt"
	case "nats":
		return "nats"
	}
	return ""
}

// check returns the scenario that the flags and the file mean.
func (f *simulateFlags) check(cmd *cobra.Command) (*simulate.Scenario, error) {
	flags := cmd.Flags()
	if f.to == "" {
		return nil, usageError{errors.New("where to? --to names a broker or NATS server"), cmd}
	}
	if err := f.mismatch(flags); err != nil {
		return nil, usageError{err, cmd}
	}
	s := &simulate.Scenario{Seed: f.seed, Groups: []simulate.Group{f.group}}
	if f.scenario != "" {
		loaded, err := simulate.Load(f.scenario)
		if err != nil {
			return nil, config.Error{Err: err}
		}
		s = loaded
	} else if err := f.group.Check(); err != nil {
		return nil, usageError{fmt.Errorf("--%w", err), cmd}
	}
	if flags.Changed("seed") {
		s.Seed = f.seed
	}
	if flags.Changed("duration") {
		s.Duration = f.duration
	}
	if flags.Changed("count") {
		s.Count = f.count
	}
	if flags.Changed("prefix") {
		s.Prefix = f.prefix
	}
	if f.start != "" {
		at, err := time.Parse(time.RFC3339Nano, f.start)
		if err != nil {
			return nil, usageError{fmt.Errorf("--start must be a time as 2026-01-02T15:04:05Z, not %q", f.start), cmd}
		}
		s.Start = at
	}
	if err := simulate.CheckPrefix(s.Prefix); err != nil {
		return nil, usageError{fmt.Errorf("--%w", err), cmd}
	}
	if s.Start.IsZero() {
		s.Start = time.Now()
	}
	return s, nil
}

// open connects to the target.
func (f *simulateFlags) open(ctx context.Context, std streams) (simulate.Target, error) {
	if err := readable(f.creds, f.ca, f.cert, f.key); err != nil {
		return nil, err
	}
	if f.kind() == "nats" {
		t, err := simulate.OpenNATS(ctx, simulate.NATSConfig{
			URL: f.to, Prefix: f.subjectPrefix, Stream: f.stream, Creds: f.creds, TLS: dial.TLS{CA: f.ca, Cert: f.cert, Key: f.key},
		})
		if err != nil {
			return nil, natsCode(err)
		}
		return t, nil
	}
	var id [4]byte
	rand.Read(id[:])
	cfg := simulate.MQTTConfig{
		URL: f.to, ClientID: fmt.Sprintf("mqttetl-sim-%x", id), Version: byte(f.version), QoS: byte(f.qos), Connections: f.connections,
		TLS: dial.TLS{CA: f.ca, Cert: f.cert, Key: f.key},
	}
	t, err := simulate.OpenMQTT(ctx, cfg)
	if err != nil {
		return nil, codeOf(err)
	}
	f.version.Spoken(std.err, t.Version(), "")
	return t, nil
}

// late is how long after its time a message may leave without a word about it.
const late = 250 * time.Millisecond

func runSimulate(ctx context.Context, f *simulateFlags, s *simulate.Scenario, std streams) error {
	t, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer t.Close()
	var sent atomic.Uint64
	line := newProgressLine(std.err, f.quiet)
	hide := line.every(func(elapsed time.Duration) string {
		n := sent.Load()
		return fmt.Sprintf("sent %d  confirmed %d  %.0f/s", n, t.Confirmed(), rate(n, elapsed))
	})
	paced := f.scenario != "" || f.group.Rate > 0
	a, err := simulate.Run(ctx, s, t, paced, sent.Store)
	hide()
	if _, werr := fmt.Fprintln(std.out, bold(std.out, f.account(a))); werr != nil {
		return errors.Join(err, fmt.Errorf("write the result: %w", werr))
	}
	if a.Late > late {
		fmt.Fprintf(std.err, "late: messages left up to %v after their time\n", a.Late.Round(time.Millisecond))
	}
	if err == nil && a.Sent != a.Confirmed {
		err = fmt.Errorf("%d of %d messages were not confirmed", a.Sent-a.Confirmed, a.Sent)
	}
	return err
}

// account is the result in one line.
func (f *simulateFlags) account(a simulate.Account) string {
	by := "PUBACK"
	switch {
	case f.kind() == "mqtt" && f.qos == 0:
		by = "written, QoS 0"
	case f.kind() == "mqtt" && f.qos == 2:
		by = "PUBCOMP"
	case f.kind() == "nats" && f.stream != "":
		by = "PubAck"
	case f.kind() == "nats":
		by = "read by the server"
	}
	return fmt.Sprintf("sent %d %s confirmed %d (%s) in %v (%.0f/s)", a.Sent, choose(a.Sent == a.Confirmed, "=", "≠"), a.Confirmed, by,
		a.Took.Round(time.Millisecond), rate(a.Sent, a.Took))
}
