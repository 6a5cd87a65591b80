package doctor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// clockSlack is by how much two clocks may differ before it is worth a warning.
const clockSlack = time.Second

// nats examines the JetStream server and the stream.
func (d *doctor) nats(ctx context.Context, n *config.NATS) {
	options := []nats.Option{nats.Timeout(patience), nats.NoReconnect(), nats.Name("mqttetl doctor")}
	if n.CredsFile != "" {
		options = append(options, nats.UserCredentials(n.CredsFile))
	}
	to := dial.NATS{TLS: n.TLS, Timeout: patience, Messages: dial.MaxAnswer}
	nc, err := to.Connect(ctx, n.URL, options...)
	if err != nil {
		check, advice := "reachable", "start the server, check host, port and firewall"
		if errors.Is(err, nats.ErrAuthorization) {
			check, advice = "login", "check creds_file and tls, and the server's users"
		}
		d.failed("nats", check, advice, dial.Network(dial.Certificate(err)))
		return
	}
	defer nc.Close()
	rtt, _ := nc.RTT() // the server has just answered
	d.add("nats", "reachable", OK, "", "%s, version %s, round trip %s, payloads up to %s",
		to.URL(), nc.ConnectedServerVersion(), rtt.Round(10*time.Microsecond), mqttetl.FormatSize(nc.MaxPayload()))
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		d.failed("nats", "jetstream", "", err)
		return
	}
	if d.account(ctx, js) {
		d.stream(ctx, js, n.Stream)
	}
}

// account looks at the limits of the JetStream account.
func (d *doctor) account(ctx context.Context, js jetstream.JetStream) bool {
	info, err := js.AccountInfo(ctx)
	if err != nil {
		d.failed("nats", "jetstream", "turn JetStream on for this server and account", err)
		return false
	}
	limit, level, advice := "unlimited", OK, ""
	if most := info.Limits.MaxStore; most >= 0 {
		limit = mqttetl.FormatSize(most)
		if float64(info.Store) > 0.9*float64(most) {
			level, advice = Warn, "raise the account's storage, or limit the stream"
		}
	}
	d.add("nats", "jetstream", level, advice, "%s stored, limit %s, %d streams", mqttetl.FormatSize(int64(info.Store)), limit, info.Streams)
	return true
}

// stream looks at what an acknowledgement of the stream is worth.
func (d *doctor) stream(ctx context.Context, js jetstream.JetStream, name string) {
	s, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		d.add("nats", "stream", OK, "", "%s does not exist; run will create it", name)
		return
	}
	if err != nil {
		d.failed("nats", "stream", "", err)
		return
	}
	info := s.CachedInfo()
	c := info.Config
	d.add("nats", "stream", OK, "", "%s: %d messages, %s", name, info.State.Msgs, mqttetl.FormatSize(int64(info.State.Bytes)))
	if c.Storage != jetstream.FileStorage {
		d.add("nats", "storage", Fail, "recreate the stream with file storage", "%s is kept in memory: a restart of the server loses it", name)
	}
	if c.MaxMsgs > 0 || c.MaxBytes > 0 || c.MaxAge > 0 || c.MaxMsgsPerSubject > 0 {
		d.add("nats", "retention", Warn, "remove the limits, if the stream is to keep everything",
			"limits: %d messages, %s, age %v, %d a subject (0 or less: none), discard %s", c.MaxMsgs, mqttetl.FormatSize(max(c.MaxBytes, 0)), c.MaxAge, c.MaxMsgsPerSubject, c.Discard)
	}
	d.add("nats", "duplicate window", OK, "", "%v; order and exactly-once do not rest on it", c.Duplicates)
	if c.Replicas >= 3 {
		d.add("nats", "sync", OK, "", "%d replicas", c.Replicas)
	} else {
		d.add("nats", "sync", Warn, "sync_interval: always in the server's jetstream block, or three replicas",
			"%d replica: an acknowledgement is no fsync unless sync_interval is always, which a client cannot see; the default is 2 minutes", c.Replicas)
	}
	if names, healing := forward.StuckReplicas(info); len(names) > 0 {
		d.add("nats", "replicas", Fail, healing, "the replica of server %s takes nothing any more while the others go on", strings.Join(names, ", "))
	}
	if info.TimeStamp.IsZero() {
		return // an older server does not tell its time
	}
	if off := time.Since(info.TimeStamp); off.Abs() > clockSlack {
		d.add("nats", "clock offset", Warn, "synchronise both clocks", "%v", off.Round(time.Millisecond))
	} else {
		d.add("nats", "clock offset", OK, "", "below %v", clockSlack)
	}
}
