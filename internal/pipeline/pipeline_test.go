package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/test/servers"
)

// until is a part that says what becomes of it.
type until struct {
	name string
	say  chan<- string
	err  error         // with which it ends when it is stopped
	ends chan struct{} // nil or what it waits for to end
}

func (u until) Run(ctx context.Context) error {
	u.say <- "start " + u.name
	<-ctx.Done()
	if u.ends != nil {
		<-u.ends
	}
	u.say <- "stop " + u.name
	return u.err
}

func (u until) Ready() string { return "" }

// TestStopOrder: the reporters first, the log last, and those of one layer together.
func TestStopOrder(t *testing.T) {
	said := make(chan string, 100)
	p := New(Options{})
	for layer, name := range []string{Log: "log", Consumers: "consumer", Sources: "source", Reporters: "reporter"} {
		p.Add(Layer(layer), name, until{name: name, say: said})
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	var got []string
	for range 4 {
		<-said
	}
	p.Add(Sources, "another", until{name: "source", say: said})
	if first := <-said; first != "start source" {
		t.Errorf("a part that comes later: %s", first)
	}
	if why := p.NotReady(); len(why) > 0 || !p.Alive() || !p.Begun() || !p.Status().Ready {
		t.Errorf("without log and sources: %v", why)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for range 5 {
		got = append(got, <-said)
	}
	if want := []string{"stop reporter", "stop source", "stop source", "stop consumer", "stop log"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if why := p.NotReady(); !slices.Equal(why, []string{"stopping"}) {
		t.Errorf("not ready: %v", why)
	}
}

// TestAPartThatFails ends the pipeline with its error, as does work that is over with its own.
func TestAPartThatFails(t *testing.T) {
	broken, done := errors.New("broken"), errors.New("done")
	said := make(chan string, 100)
	p := New(Options{})
	p.Add(Sources, "whole", until{name: "whole", say: said, err: errors.New("follows from it")})
	p.Add(Consumers, "broken", Func(func(context.Context) error { return broken }))
	if err := p.Run(t.Context()); err != broken {
		t.Errorf("%v, want %v", err, broken)
	}
	p = New(Options{})
	p.Add(Consumers, "whole", until{name: "whole", say: said})
	if err := p.While(t.Context(), func(context.Context) error { return done }); !errors.Is(err, done) {
		t.Errorf("%v, want %v", err, done)
	}
	ctx, stop := context.WithCancel(t.Context())
	p = New(Options{})
	p.Add(Consumers, "whole", until{name: "whole", say: said, err: errors.New("while stopping")})
	stop()
	if err := p.Run(ctx); err != nil {
		t.Errorf("a stop that was asked for: %v", err)
	}
}

// TestAPartThatHangs is not waited for.
func TestAPartThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said, never := make(chan string, 100), make(chan struct{})
		p := New(Options{StopTime: StopTime})
		p.Add(Consumers, "hangs", until{name: "hangs", say: said, ends: never})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		<-said
		stop()
		asked := time.Now()
		if err := <-ended; err != nil || time.Since(asked) != StopTime {
			t.Errorf("after %v: %v", time.Since(asked), err)
		}
		close(never)
	})
}

// TestReplace: one part stops before the other starts, which has its place.
func TestReplace(t *testing.T) {
	said := make(chan string, 100)
	p := New(Options{})
	p.Add(Consumers, "a", until{name: "a", say: said})
	p.Add(Consumers, "b", until{name: "b", say: said, err: errors.New("broken")})
	err := p.While(t.Context(), func(context.Context) error {
		<-said
		<-said
		if err := p.Replace("a", until{name: "c", say: said}); err != nil {
			t.Error(err)
		}
		if stop, start := <-said, <-said; stop != "stop a" || start != "start c" {
			t.Errorf("%s, %s", stop, start)
		}
		if err := p.Replace("x", until{}); err == nil || err.Error() != "there is no part x" {
			t.Error(err)
		}
		if err := p.Remove("b"); err == nil || err.Error() != "broken" {
			t.Error(err)
		}
		return nil
	})
	if err == nil || err.Error() != "broken" {
		t.Errorf("a part that fails while it is removed: %v", err)
	}
}

// world is a configuration of files in a directory and the metrics of its pipeline.
type world struct {
	cfg *config.Config
	reg *prometheus.Registry
}

func newWorld(t *testing.T) world {
	dir := t.TempDir()
	return world{&config.Config{
		Log:     config.Log{Dir: filepath.Join(dir, "log"), MaxSize: 64 << 20},
		Archive: &config.Archive{Path: filepath.Join(dir, "telemetry.db"), Batch: config.Batch{Count: 100, Period: time.Millisecond}},
	}, prometheus.NewRegistry()}
}

// metric is the sum of a metric over its labels; ok is false where there is none.
func (w world) metric(t *testing.T, name string) (sum float64, ok bool) {
	t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			ok = true
		}
	}
	return sum, ok
}

// TestTheArchiveIsReplaced while records come: each is one row in the end, and
// what counts them goes on. Without an archive its metrics are gone.
func TestTheArchiveIsReplaced(t *testing.T) {
	w := newWorld(t)
	p, err := Open(w.cfg, Options{Metrics: w.reg})
	if err != nil {
		t.Fatal(err)
	}
	const rounds, each = 20, 500
	total := mqttetl.Seq(0)
	arrive := func() {
		stored := make(chan error, 1)
		b := &mqttetl.Batch{Source: "plant", Done: func(_ mqttetl.Seq, err error) { stored <- err }}
		for range each {
			b.Append(1, mqttetl.Message{Topic: []byte("a"), Payload: fmt.Appendf(nil, "%d", total)})
			total++
		}
		p.Log().Append(b)
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	drained := func() {
		for s := p.Status(); s.Archive.Cursor < total; s = p.Status() {
			if err := t.Context().Err(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	another := func() Part {
		part, err := p.newArchive(w.cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		return part
	}
	err = p.While(t.Context(), func(context.Context) error {
		for range rounds {
			arrive()
			if err := p.Replace(Archive, another()); err != nil {
				return err
			}
		}
		drained()
		if n, _ := w.metric(t, "mqttetl_archived_messages_total"); n != rounds*each {
			t.Errorf("archived %v, want %d: the counter begins anew", n, rounds*each)
		}
		if err := p.Remove(Archive); err != nil {
			return err
		}
		if _, ok := w.metric(t, "mqttetl_archived_messages_total"); ok || p.Status().Archive != nil || !p.Status().Ready {
			t.Errorf("the archive is not gone: %+v", p.Status())
		}
		arrive()
		p.add(&actor{Part: another(), layer: Consumers, name: Archive, shelf: p.metrics.archives})
		drained()
		if n, _ := w.metric(t, "mqttetl_archived_messages_total"); n != (rounds+1)*each {
			t.Errorf("archived %v, want %d", n, (rounds+1)*each)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var rows int64
	err = archive.Query(t.Context(), w.cfg.Archive.Path, `SELECT count(*) FROM messages WHERE payload = CAST(seq - 1 AS TEXT)`, func(_ []string, v []any) error {
		rows, _ = v[0].(int64)
		return nil
	})
	if err != nil || rows != int64(total) {
		t.Errorf("%d rows, want %d: %v", rows, total, err)
	}
}

// TestASourceIsRemoved: it no longer stands in the way of being ready, and its
// series are deleted; that of one which takes another's place goes on.
func TestASourceIsRemoved(t *testing.T) {
	w := newWorld(t)
	addr, err := servers.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		w.cfg.Sources = append(w.cfg.Sources, config.Source{Name: name, URL: "mqtt://" + addr, Version: "5", ClientID: name, Subscribe: []string{"#"}, Connections: 1, ReceiveMaximum: 10, KeepAlive: time.Minute, Retained: "new"})
	}
	p, err := Open(w.cfg, Options{Metrics: w.reg})
	if err != nil {
		t.Fatal(err)
	}
	series := func() (names []string) {
		families, err := w.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "mqttetl_source_connected" {
					names = append(names, m.GetLabel()[0].GetValue())
				}
			}
		}
		return names
	}
	err = p.While(t.Context(), func(context.Context) error {
		if why := strings.Join(p.NotReady(), "\n"); !strings.HasPrefix(why, "source a: not connected") || !strings.Contains(why, "\nsource b: not connected") {
			t.Errorf("not ready: %s", why)
		}
		part, err := p.newSource(w.cfg.Sources[0])
		if err == nil {
			err = p.Replace("source a", part)
		}
		if err != nil || !slices.Equal(series(), []string{"a", "b"}) {
			t.Errorf("replaced: %v, %v", series(), err)
		}
		if err := p.Remove("source a"); err != nil || !slices.Equal(series(), []string{"b"}) {
			t.Errorf("removed: %v, %v", series(), err)
		}
		if err := p.Remove("source b"); err != nil || len(series()) > 0 || len(p.Status().Sources) > 0 {
			t.Errorf("removed: %v, %v", series(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestConsumersAreParts: the log is told of no consumer that nobody reads.
func TestConsumersAreParts(t *testing.T) {
	nats := &config.NATS{URL: "nats://127.0.0.1:1", Stream: "S", SubjectPrefix: "mqtt"}
	publish, err := config.Parse("x", []byte("sources: [{url: 'mqtt://h', subscribe: ['#']}]\nnats: {}\nroutes: [{name: r, topic: a, decode: json, publish: out, columns: {n: INTEGER .n}}]\n"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*config.Config)
		want   []string
	}{
		{func(c *config.Config) { c.Archive = nil }, nil},
		{func(c *config.Config) {}, []string{Archive}},
		{func(c *config.Config) { c.NATS = nats }, []string{Archive, Forward}},
		{func(c *config.Config) { c.NATS, c.Routes = nats, publish.Routes }, []string{Archive, Forward, Publish}},
		{func(c *config.Config) { c.Archive, c.NATS, c.Routes = nil, nats, publish.Routes }, []string{Forward, Publish}},
	} {
		w := newWorld(t)
		c.change(w.cfg)
		p, err := Open(w.cfg, Options{Metrics: w.reg})
		if err != nil {
			t.Fatal(err)
		}
		var parts []string
		for _, a := range p.of(Consumers) {
			parts = append(parts, a.name)
			p.Log().Consumer(a.name) // panics if the log does not know it
		}
		if got := ConsumersOf(w.cfg); !slices.Equal(got, c.want) || !slices.Equal(parts, c.want) {
			t.Errorf("consumers %v, parts %v, want %v", got, parts, c.want)
		}
		if err := p.While(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
	}
}
