package prove

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

// Bounds of what a trial waits for. A trial that passes needs a fraction.
const (
	trialTime = 2 * time.Minute
	readyTime = 45 * time.Second
	drainTime = 40 * time.Second
)

// queueConf has a broker keep all of a session's queue: what it drops was
// never delivered.
const queueConf = "persistence true\nautosave_interval 1800\nmax_queued_messages 0\nmax_inflight_messages 1000\n"

// world is a broker, a JetStream server and the service between them, with a
// proxy on either side.
type world struct {
	*service.Service
	broker *servers.Mosquitto
	nats   *servers.NATSProcess
	in     *servers.Proxy // between broker and service
	out    *servers.Proxy // between service and NATS
	tap    *tap           // on in
	pub    *e2e.Publisher
}

// setup is what worlds differ in.
type setup struct {
	dir      string // of everything
	files    string // of the service; "": in dir
	broker   string // configuration in place of queueConf
	nats     string // added to the configuration of nats-server
	scheme   string // of the broker's URL; "": mqtt
	listener string // address of the broker's listener for that scheme
	cluster  string // URLs of a cluster in place of a nats-server and the proxy to it
	settings service.Settings

	// before puts something before the NATS server and returns its URL; nil: nothing.
	before func(server string) (url string, err error)
}

// newWorld starts everything but the service.
func newWorld(bin string, s setup) (_ *world, err error) {
	w := &world{tap: newTap()}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	var dirs [3]string
	for i, name := range []string{"broker", "nats", "service"} {
		dirs[i] = filepath.Join(s.dir, name)
		if err := os.MkdirAll(dirs[i], 0o750); err != nil {
			return nil, err
		}
	}
	if s.broker == "" {
		s.broker = queueConf
	}
	if w.broker, err = servers.StartMosquitto(dirs[0], s.broker); err != nil {
		return nil, err
	}
	if err := w.startNATS(dirs[1], &s); err != nil {
		return nil, err
	}
	target, scheme := w.broker.Addr, "mqtt"
	if s.scheme != "" {
		target, scheme = s.listener, s.scheme
	}
	if w.in, err = servers.StartProxy(target); err != nil {
		return nil, err
	}
	if scheme == "mqtt" { // else there is nothing to read
		w.in.SetTap(w.tap.piece)
	}
	if s.files == "" {
		s.files = dirs[2]
	}
	s.settings.Sources = strings.ReplaceAll(s.settings.Sources, "{broker}", w.broker.URL)
	s.settings.Broker, s.settings.Version = scheme+"://"+w.in.Addr, "5"
	if s.settings.QoS == 0 {
		s.settings.QoS = 1
	}
	w.pub = &e2e.Publisher{Broker: w.broker.URL, Run: "m", QoS: byte(s.settings.QoS), Topics: 5, Workers: 4, Size: 64}
	w.Service, err = service.New(bin, s.files, s.settings)
	return w, err
}

// startNATS starts the JetStream server, unless there is one.
func (w *world) startNATS(dir string, s *setup) (err error) {
	if s.cluster != "" {
		s.settings.NATS = s.cluster
		return nil
	}
	if w.nats, err = servers.StartNATSProcess(dir, s.nats); err != nil {
		return err
	}
	if w.out, err = servers.StartProxy(w.nats.Addr()); err != nil {
		return err
	}
	s.settings.NATS = "nats://" + w.out.Addr
	if s.before != nil {
		s.settings.NATS, err = s.before(w.out.Addr)
	}
	return err
}

// close ends everything at once.
func (w *world) close() {
	if w.Service != nil {
		w.Kill()
	}
	for _, p := range []*servers.Proxy{w.in, w.out} {
		if p != nil {
			p.Close()
		}
	}
	if w.nats != nil {
		w.nats.Kill()
	}
	if w.broker != nil {
		w.broker.Kill()
	}
}

// start runs the service and waits until it is subscribed and its stores are
// open. One that runs and is not ready in time, such as before a stream that is
// ahead of its log, has failed like one that ended.
func (w *world) start(ctx context.Context) error {
	if err := w.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	_, err := w.Await(ctx, "ready", func(s service.Status) bool { return s.Ready })
	return err
}

// publish publishes in the background until the returned function is called,
// which ends it and waits for what is in flight.
func (w *world) publish(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.pub.Publish(ctx, -1) }()
	return sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

// more waits until n further messages have been acknowledged to the publisher.
func (w *world) more(ctx context.Context, n int) error { return w.pub.AwaitAcked(ctx, w.pub.Acked()+n) }

// drain publishes a last message and waits until it, and so all before it, is
// in both stores. A broker that has lost the session drops it until the service
// has subscribed again, so another one follows.
func (w *world) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	for {
		err := w.lastArrives(ctx)
		if err == nil || ctx.Err() != nil || w.Ended() {
			return err
		}
	}
}

// lastArrives is one attempt of drain.
func (w *world) lastArrives(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime/4)
	defer cancel()
	last := &e2e.Publisher{Broker: w.broker.URL, Run: fmt.Sprintf("end-%d", time.Now().UnixNano()), QoS: 1, Workers: 1}
	if err := last.Publish(ctx, 1); err != nil {
		return err
	}
	for payload, topic := range last.Acknowledged() {
		_, err := w.Await(ctx, "drained", func(s service.Status) bool {
			if !s.Drained() {
				return false
			}
			there, err := e2e.Holds(w.Archive(), topic, payload)
			return err == nil && there
		})
		return err
	}
	return errors.New("the last message was not acknowledged")
}

// account lets everything drain, stops the service and notes in t how both
// stores differ from what was acknowledged: to the publisher, and by the
// service to the broker. brokerDied: only the latter counts, for a broker that
// is killed forgets what it had.
func (w *world) account(ctx context.Context, t *Tally, trial string, brokerDied bool) error {
	rows, err := w.settled(ctx, t, trial)
	if err != nil {
		return err
	}
	stream, err := e2e.ReadStream(ctx, w.nats.URL(), "E2E")
	if err != nil {
		return err
	}
	if err := e2e.CheckSame(rows, stream); err != nil {
		t.Violate("%s: stream: %v", trial, err)
	}
	w.count(t, trial, rows, stream, brokerDied)
	return nil
}

// settled lets everything drain, stops the service and returns the archive.
func (w *world) settled(ctx context.Context, t *Tally, trial string) ([]e2e.Archived, error) {
	violate := func(format string, args ...any) { t.Violate(trial+": "+format, args...) }
	if err := w.drain(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		violate("%v; it wrote: %s", err, tail(w.Output(), 1500))
	}
	if w.Ended() {
		w.Kill()
	} else if _, err := w.Stop(); err != nil {
		violate("SIGTERM: %v", err)
	}
	if err := w.Verify(ctx); err != nil {
		violate("%v", err)
	}
	rows, err := e2e.ReadArchive(w.Archive())
	if err != nil {
		return nil, err
	}
	if err := e2e.CheckNumbers(rows, 1); err != nil {
		violate("archive: %v", err)
	}
	return rows, nil
}

// count notes what is lost and what is there twice.
func (w *world) count(t *Tally, trial string, rows []e2e.Archived, stream []e2e.Streamed, brokerDied bool) {
	archived := make(map[string]bool, len(rows))
	for _, r := range rows {
		if archived[r.Payload] {
			t.Redelivered++
			if w.pub.QoS == 2 && !w.tap.publishedAgain(r.Payload) {
				t.Violate("%s: QoS 2 message %s is a second record, %d", trial, short(r.Payload), r.Seq)
			}
		}
		archived[r.Payload] = true
	}
	ids := make(map[string]bool, len(stream))
	for _, m := range stream {
		if ids[m.ID] {
			t.Duplicated++
		}
		ids[m.ID] = true
	}
	lost := map[string]bool{}
	for _, payload := range w.tap.acknowledged() {
		if !archived[payload] {
			lost[payload] = true
		}
	}
	acked := w.pub.Acknowledged()
	t.Messages += len(acked)
	for payload := range acked {
		if !archived[payload] && !brokerDied {
			lost[payload] = true
		}
	}
	t.Lost += len(lost)
	for payload := range lost {
		t.Violate("%s: %d of %d acknowledged messages lost, such as %s", trial, len(lost), len(acked), short(payload))
		break
	}
}

// short is a payload without its padding.
func short(payload string) string { return strings.TrimRight(payload, ".") }

// tail is the end of a text.
func tail(s string, n int) string { return s[max(0, len(s)-n):] }
