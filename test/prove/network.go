package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

const (
	networkKeepAlive = "2s"            // of the session with the broker
	reconnectTime    = 2 * time.Second // within which messages must pass again once the network does
	// noticeTime is how long it may take until a connection that died without a
	// word is given up: two keepalives of the broker's session, or the forwarder's
	// wait for an acknowledgement, and one more attempt.
	noticeTime = 6 * time.Second
)

// storm is what happens to one of the two connections.
type storm struct {
	name   string
	rage   func(ctx context.Context, p *servers.Proxy, rnd *rand.Rand)
	silent bool // the service is not told
}

var storms = []storm{
	{"cut", func(_ context.Context, p *servers.Proxy, _ *rand.Rand) { p.Cut() }, false},
	{"ended", func(_ context.Context, p *servers.Proxy, _ *rand.Rand) { p.End() }, false},
	{"half open", func(_ context.Context, p *servers.Proxy, _ *rand.Rand) { p.HalfOpen() }, true},
	{"cut many times", func(ctx context.Context, p *servers.Proxy, rnd *rand.Rand) {
		for range 10 {
			p.Cut()
			backoff.Pause(ctx, time.Duration(rnd.IntN(300))*time.Millisecond)
		}
	}, false},
	{"refused", func(ctx context.Context, p *servers.Proxy, rnd *rand.Rand) {
		spell(ctx, p, rnd, servers.Weather{Refuse: true}, p.Cut)
	}, false},
	{"silent", func(ctx context.Context, p *servers.Proxy, rnd *rand.Rand) {
		spell(ctx, p, rnd, servers.Weather{HoldUp: true, HoldDown: true}, nil)
	}, false},
	{"silent to the server", func(ctx context.Context, p *servers.Proxy, rnd *rand.Rand) {
		spell(ctx, p, rnd, servers.Weather{HoldUp: true}, nil)
	}, false},
	{"silent from the server", func(ctx context.Context, p *servers.Proxy, rnd *rand.Rand) {
		spell(ctx, p, rnd, servers.Weather{HoldDown: true}, nil)
	}, false},
	{"byte by byte", func(ctx context.Context, p *servers.Proxy, rnd *rand.Rand) {
		spell(ctx, p, rnd, servers.Weather{Dribble: true}, p.Cut)
	}, false},
	{"slow", func(ctx context.Context, p *servers.Proxy, rnd *rand.Rand) {
		spell(ctx, p, rnd, servers.Weather{Delay: time.Duration(50+rnd.IntN(300)) * time.Millisecond}, p.Cut)
	}, false},
}

// spell is some seconds of weather, which may begin with an event.
func spell(ctx context.Context, p *servers.Proxy, rnd *rand.Rand, w servers.Weather, begin func()) {
	p.Set(w)
	if begin != nil {
		begin()
	}
	backoff.Pause(ctx, time.Duration(200+rnd.IntN(3800))*time.Millisecond)
	p.Set(servers.Weather{})
}

func networkCampaign() *Campaign {
	return &Campaign{
		Name:    "network",
		Injects: "connections to the broker or to NATS cut, ended, half open, refused, silent in one or both directions, byte by byte, slow; TLS certificate and authority replaced",
		Short:   8, Long: 500,
		Run: func(ctx context.Context, e Env) (Tally, error) { return eachTrial(ctx, e, networkTrial) },
		Controls: []Control{
			{Name: "position moved when sent, not when confirmed", Replace: movedWhenSent, Setting: only("nats"), Trials: 40},
			{Name: "next attempt only after a minute", Replace: map[string][2]string{"ingest/pace.go": {
				"first: 100 * time.Millisecond, most: 2 * time.Second,", "first: time.Minute, most: time.Minute,",
			}}, Setting: only("broker"), Trials: 20},
		},
	}
}

// networkTrial lets one storm rage, and counts.
func networkTrial(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) error {
	kind := rnd.IntN(10) // 0…3 broker, 4…7 NATS, 8 and 9 their certificates
	switch e.Only {
	case "broker":
		kind = 0
	case "nats":
		kind = 4
	}
	switch kind {
	case 8:
		return certificateTrial(ctx, e, dir, "the broker", t)
	case 9:
		return certificateTrial(ctx, e, dir, "NATS", t)
	}
	w, err := newWorld(e.Bin, setup{dir: dir, settings: service.Settings{KeepAlive: networkKeepAlive}})
	if err != nil {
		return err
	}
	defer w.close()
	proxy, where := w.in, "broker"
	if kind >= 4 {
		proxy, where = w.out, "NATS"
	}
	s := storms[rnd.IntN(len(storms))]
	trial := fmt.Sprintf("trial %d (seed %d), connection to %s %s", t.Trials, e.Seed+uint64(t.Trials), where, s.name)
	w.pub.Rate = 1000
	if err := w.start(ctx); err != nil {
		return err
	}
	stop := w.publish(ctx)
	defer stop()
	if err := w.more(ctx, 1+rnd.IntN(500)); err != nil {
		return err
	}
	s.rage(ctx, proxy, rnd)
	if err := w.recovers(ctx, t, trial, where, s.silent); err != nil {
		return err
	}
	stop()
	return w.account(ctx, t, trial, false)
}

// recovers notes how long it takes until messages pass again.
func (w *world) recovers(ctx context.Context, t *Tally, trial, where string, silent bool) error {
	back := time.Now()
	published, acked := w.pub.Acked(), w.tap.count()
	before, err := w.Status(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, drainTime/2)
	defer cancel()
	passes := func(s service.Status) bool { return w.tap.count() > acked && w.pub.Acked() > published }
	if where == "NATS" {
		passes = func(s service.Status) bool { return s.NATS.Cursor > before.NATS.Cursor }
	}
	if _, err := w.Await(ctx, "messages pass again", passes); err != nil {
		t.Violate("%s: %v; it wrote: %s", trial, err, tail(w.Output(), 1000))
		return nil
	}
	limit := reconnectTime
	if silent {
		limit += noticeTime
	}
	if took := time.Since(back); took > limit {
		t.Violate("%s: messages pass again only %v after the network does", trial, took.Round(time.Millisecond))
	}
	return nil
}

// certificateTrial replaces the certificate of one of the servers and the
// authority that signed it; connections that are made from then on see the new
// ones.
func certificateTrial(ctx context.Context, e Env, dir, where string, t *Tally) error {
	trial := fmt.Sprintf("trial %d (seed %d), certificates of %s replaced", t.Trials, e.Seed+uint64(t.Trials), where)
	certs := filepath.Join(dir, "certs")
	if err := newCertificates(certs); err != nil {
		return err
	}
	s := setup{dir: dir, settings: service.Settings{KeepAlive: networkKeepAlive}}
	if where == "NATS" {
		s.settings.NATSCA = filepath.Join(certs, "ca.pem")
		s.nats = fmt.Sprintf("tls { cert_file: '%s/server.pem', key_file: '%[1]s/server.key' }\nallow_non_tls: true\n", certs)
	} else {
		if err := s.listen("mqtts", certs); err != nil {
			return err
		}
	}
	w, err := newWorld(e.Bin, s)
	if err != nil {
		return err
	}
	defer w.close()
	w.pub.Rate = 1000
	if err := w.start(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, w.Output())
	}
	stop := w.publish(ctx)
	defer stop()
	if err := w.more(ctx, 300); err != nil {
		return err
	}
	if err := newCertificates(certs); err != nil {
		return err
	}
	server := interface {
		Stop() error
		Restart() error
	}(w.broker)
	if where == "NATS" {
		server = w.nats
	}
	if err := errors.Join(server.Stop(), server.Restart()); err != nil {
		return err
	}
	back := time.Now()
	before, err := w.Status(ctx)
	if err != nil {
		return err
	}
	again := func(s service.Status) bool { return s.Ready && s.Sources[0].Reconnects > 0 }
	if where == "NATS" {
		again = func(s service.Status) bool { return s.NATS.Cursor > before.NATS.Cursor }
	}
	if _, err := w.Await(ctx, "messages pass over TLS again", again); err != nil {
		t.Violate("%s: %v; it wrote: %s", trial, err, tail(w.Output(), 1000))
	} else if took := time.Since(back); took > reconnectTime {
		t.Violate("%s: connected again only %v after the server is back", trial, took.Round(time.Millisecond))
	}
	if err := w.more(ctx, 300); err != nil {
		return err
	}
	stop()
	return w.account(ctx, t, trial, false)
}

// listen gives the broker a listener of the scheme, with the certificates in
// certs where it is one of TLS, for the service to connect to.
func (s *setup) listen(scheme, certs string) (err error) {
	if s.scheme = scheme; scheme == "mqtt" {
		s.scheme = ""
		return nil
	}
	if s.listener, err = freePort(); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(s.listener)
	s.broker = queueConf + fmt.Sprintf("listener %s %s\nallow_anonymous true\n", port, host)
	if scheme != "mqtts" {
		s.broker += "protocol websockets\n"
	}
	if scheme != "ws" {
		s.broker += fmt.Sprintf("cafile %s/ca.pem\ncertfile %[1]s/server.pem\nkeyfile %[1]s/server.key\n", certs)
		s.settings.CA = filepath.Join(certs, "ca.pem")
	}
	return nil
}

// newCertificates replaces everything in dir by a new authority and what it signs.
func newCertificates(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	a, err := servers.NewAuthority(dir)
	if err != nil {
		return err
	}
	_, _, err = a.Issue("server", time.Now().Add(time.Hour))
	return err
}

// freePort is an address that was free just now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
