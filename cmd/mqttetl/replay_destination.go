package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/forward/replay"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/mosquitto"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// destinationFlags say where messages go.
type destinationFlags struct {
	to            string
	stream        string
	subjectPrefix string
	newIDs        bool
	creds         string
	ca, cert, key string
	clientID      string
	version       mosquitto.Version
	qos           int
	noRetain      bool

	given func(flag string) bool // on the command line
}

func (f *destinationFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.given = flags.Changed
	flags.StringVar(&f.to, "to", "", "URL: nats, tls, nats+ws, nats+wss; mqtt, mqtts, ws, wss; or -")
	flags.StringVar(&f.stream, "stream", "", "JetStream stream; created if absent")
	flags.StringVar(&f.subjectPrefix, "subject-prefix", "mqtt", "first tokens of every NATS subject")
	flags.BoolVar(&f.newIDs, "new-ids", false, "Nats-Msg-Id of this replay instead of the original ones")
	flags.StringVar(&f.creds, "creds", "", "NATS credentials file")
	flags.StringVar(&f.ca, "ca", "", "PEM file of authorities to trust")
	flags.StringVar(&f.cert, "cert", "", "PEM file of the client certificate")
	flags.StringVar(&f.key, "key", "", "PEM file of the certificate's key")
	flags.StringVar(&f.clientID, "client-id", "", "MQTT client id (default: the broker gives one)")
	mosquitto.AddVersion(flags, &f.version)
	flags.IntVar(&f.qos, "qos", -1, "MQTT QoS of every message (default: as recorded)")
	flags.Lookup("qos").DefValue = "0" // or the help would name -1, too
	flags.BoolVar(&f.noRetain, "no-retain", false, "never set RETAIN")
	cmd.MarkFlagRequired("to")
}

func (f *destinationFlags) check() error {
	if f.qos < -1 || f.qos > 2 {
		return fmt.Errorf("--qos %d: must be 0, 1 or 2", f.qos)
	}
	if f.stream != "" && f.kind() != "nats" {
		return fmt.Errorf("--stream needs --to nats://…, or nats+ws://… through WebSocket, not %s", secret.URL(f.to))
	}
	if f.kind() == "" {
		return fmt.Errorf("--to %s: must be nats://…, mqtt://… or -", secret.URL(f.to))
	}
	if f.kind() == "nats" {
		if err := f.nats("id").Check(); err != nil {
			return err
		}
	}
	return f.checkGiven()
}

// checkGiven refuses flags that would mean nothing at this destination.
func (f *destinationFlags) checkGiven() error {
	for _, c := range []struct {
		kinds string
		flags []string
	}{
		{"nats", []string{"subject-prefix", "new-ids", "creds"}},
		{"mqtt", []string{"client-id", "mqtt-version", "qos", "no-retain"}},
		{"nats mqtt", []string{"ca", "cert", "key"}},
	} {
		for _, flag := range c.flags {
			if f.given != nil && f.given(flag) && !strings.Contains(c.kinds, f.kind()) {
				return fmt.Errorf("--%s means nothing with --to %s: leave it out", flag, secret.URL(f.to))
			}
		}
	}
	if (f.ca != "" || f.cert != "" || f.key != "") && strings.HasPrefix(f.to, "nats+ws://") {
		return fmt.Errorf("--ca, --cert and --key: %s is without TLS: with it the URL is nats+wss://", secret.URL(f.to))
	}
	if f.kind() == "mqtt" {
		u, err := dial.URL(f.to)
		if err != nil {
			return fmt.Errorf("--to: %w", err)
		}
		if u.Path != "" && u.Path != "/" && !dial.WebSocket(u.Scheme) {
			return fmt.Errorf("--to %s: %s has no path, only ws and wss have; for topics below %s there is --topic-prefix",
				secret.URL(u.String()), u.Scheme, strings.Trim(u.Path, "/"))
		}
		return (&dial.TLS{CA: f.ca, Cert: f.cert}).Fits(u)
	}
	return nil
}

// kind is what the destination speaks: "nats", "mqtt", "lines", "" for neither.
func (f *destinationFlags) kind() string {
	scheme, _, _ := strings.Cut(f.to, "://")
	switch {
	case f.to == "-":
		return "lines"
	case scheme == f.to:
	case scheme == "nats", scheme == "tls", scheme == "nats+ws", scheme == "nats+wss":
		return "nats"
	case scheme == "mqtt", scheme == "mqtts", scheme == "tcp", scheme == "ssl", dial.WebSocket(scheme):
		return "mqtt"
	}
	return ""
}

// openDestination connects. found is the last record that a stream holds already;
// all up to after was confirmed before.
func (f *destinationFlags) openDestination(ctx context.Context, std streams, plan *replay.Plan, after mqttetl.Seq, fresh bool, confirmed replay.Confirm,
	refused func(*replay.RefusedError) error, down func(error)) (to replay.Destination, found mqttetl.Seq, err error) {
	if err := readable(f.creds, f.ca, f.cert, f.key); err != nil {
		return nil, 0, err
	}
	switch {
	case f.kind() == "lines":
		return replay.NewLines(std.out, confirmed), 0, nil
	case f.kind() == "mqtt":
		to, err := replay.OpenMQTT(ctx, replay.MQTTConfig{URL: f.to, ClientID: f.clientID, Version: byte(f.version),
			TLS: dial.TLS{CA: f.ca, Cert: f.cert, Key: f.key}, QoS: f.qos, NoRetain: f.noRetain}, confirmed, refused, down)
		if err != nil {
			return nil, 0, err
		}
		f.version.Spoken(std.err, to.Version(), ", which has no properties")
		return to, 0, nil
	case f.stream != "":
		cfg := f.nats(plan.IDs)
		cfg.Key, cfg.Fresh = plan.Key, fresh
		stream, found, err := replay.OpenJetStream(ctx, cfg, after, confirmed, refused, down)
		return stream, found, f.explain(err)
	}
	core, err := replay.OpenCore(ctx, f.nats(plan.IDs), confirmed, down)
	return core, 0, f.explain(err)
}

// checkTaken refuses to play as core messages what a stream would store: with
// the ids of the log, a forwarder takes them for the end of what it has sent.
func (f *destinationFlags) checkTaken(ctx context.Context) error {
	if f.kind() != "nats" || f.stream != "" || f.newIDs {
		return nil
	}
	if err := readable(f.creds, f.ca, f.cert, f.key); err != nil {
		return err
	}
	stream, err := forward.TakenBy(ctx, f.nats("id"))
	if err != nil || stream == "" {
		return f.explain(err)
	}
	err = fmt.Errorf("stream %s takes subjects of %s.>: it would store what is played, under the original ids and unconfirmed", stream, f.subjectPrefix)
	return codedError{mqttetl.WithHint(err, fmt.Sprintf(
		"--stream %s plays into it, confirmed and each record once; --subject-prefix plays elsewhere; --new-ids has it stored again as new messages", stream)), exitUnreachable}
}

func (f *destinationFlags) nats(ids string) forward.Config {
	return forward.Config{URL: strings.TrimPrefix(f.to, "nats+"), Stream: f.stream, SubjectPrefix: f.subjectPrefix, CredsFile: f.creds,
		TLS: dial.TLS{CA: f.ca, Cert: f.cert, Key: f.key}, LogID: ids}
}

// readable holds files that flags of these names give to be there.
func readable(creds, ca, cert, key string) error {
	for _, file := range []struct{ flag, path string }{{"creds", creds}, {"ca", ca}, {"cert", cert}, {"key", key}} {
		if file.path == "" {
			continue
		}
		_, err := os.ReadFile(file.path)
		if err == nil && file.flag == "ca" {
			err = dial.CheckCA(file.path)
		}
		if err != nil {
			return fmt.Errorf("--%s: %w", file.flag, err)
		}
	}
	return nil
}

// explain adds what can be done about answers of NATS that do not say it.
func (f *destinationFlags) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrSecureConnWanted):
		return mqttetl.WithHint(err, "the server has no TLS there: leave out --ca, --cert and --key, or configure tls in nats-server")
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return mqttetl.WithHint(fmt.Errorf("JetStream is off: %w", err), "start nats-server with -js, or leave out --stream to play to whoever listens")
	case strings.Contains(err.Error(), "(10065)"): // subjects overlap
		return mqttetl.WithHint(err, fmt.Sprintf("another stream takes subjects of %s.>: name that one as --stream, or set another --subject-prefix", f.subjectPrefix))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return mqttetl.WithHint(err, "what listens there does not speak NATS, or is busy: 4222 is the usual port of NATS; 1883 and 8883 are those of MQTT, mqtt:// and mqtts://")
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, syscall.ECONNREFUSED):
		return mqttetl.WithHint(err, "start nats-server, or name its host and port: 4222 is the usual one")
	}
	return natsCode(err)
}
