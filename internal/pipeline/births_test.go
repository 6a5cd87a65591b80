package pipeline

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
	"github.com/mqttetl/mqttetl/sink/wal"
	"github.com/mqttetl/mqttetl/test/servers"
)

// A birth with the alias 2, and data by that alias.
const (
	pressBirth = "CMCD4f24MxISCgViZFNlcRjAg+H9uDMgBFgDEiEKFE5vZGUgQ29udHJvbC9SZWJpcnRoGMCD4f24MyALcAASKAoSSW5wdXRzL1RlbXBlcmF0dXJlEAIYwIPh/bgzIAppAAAAAACANUASJwoTUHJvcGVydGllcy9GaXJtd2FyZRADGMCD4f24MyAMegUyLjEuMBgA"
	pressData  = "COCi4f24MxISEAIY4KLh/bgzaQAAAAAAwDVAGAI="
)

func pressRecord(t *testing.T, seq mqttetl.Seq, message, payload string) mqttetl.Record {
	t.Helper()
	p, err := base64.StdEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	return mqttetl.Record{Seq: seq, Time: 1, Source: "plant", Message: mqttetl.Message{Topic: []byte("spBv1.0/plant/" + message + "/press4"), Payload: p}}
}

// What the records say that come again is not known before they come.
func TestMapperRewinds(t *testing.T) {
	set, err := transform.Compile([]transform.Route{{Name: "metrics", Topic: "spBv1.0/#", Decode: "sparkplug_b", Publish: "sp",
		Columns: []transform.Column{{Name: "metric", Type: store.Text}}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMapper(set)
	if err != nil {
		t.Fatal(err)
	}
	birth, data := pressRecord(t, 1, "NBIRTH", pressBirth), pressRecord(t, 2, "NDATA", pressData)
	defer m.Close()
	works := func() bool {
		objects, letters, err := m.Map(&data)
		if err != nil {
			t.Fatal(err)
		}
		return len(objects) == 1 && len(letters) == 0
	}
	rewind := func() {
		if err := m.Rewind(0); err != nil {
			t.Fatal(err)
		}
	}
	m.Map(&birth)
	if !works() {
		t.Error("a birth is not known")
	}
	if rewind(); works() {
		t.Error("a birth is known that comes again")
	}
	m.Map(&birth)
	m.Settled()
	if rewind(); !works() {
		t.Error("a birth that was settled is forgotten")
	}
}

// Births are those of the consumer's position: a later one is not taken, nor
// an older one in its place.
func TestBirthsAsOfThePosition(t *testing.T) {
	for _, c := range []struct {
		archived, position mqttetl.Seq
		want               []mqttetl.Seq
	}{
		{0, 2, []mqttetl.Seq{1}}, {0, 3, []mqttetl.Seq{1, 3}}, {2, 2, []mqttetl.Seq{1}}, {1, 3, []mqttetl.Seq{1, 3}},
		{3, 3, []mqttetl.Seq{3}}, {3, 2, nil}, {0, 0, nil},
	} {
		dir := t.TempDir()
		cfg := &config.Config{
			Log: config.Log{Dir: filepath.Join(dir, "log")}, Archive: &config.Archive{Path: filepath.Join(dir, "telemetry.db"), Latest: true},
			Routes: []transform.Route{{Name: "metrics", Topic: "spBv1.0/#", Decode: "sparkplug_b", Publish: "sp"}},
		}
		records := []mqttetl.Record{pressRecord(t, 1, "NBIRTH", pressBirth), pressRecord(t, 2, "NDATA", pressData), pressRecord(t, 3, "NBIRTH", pressBirth)}
		id := logged(t, cfg.Log.Dir, records, c.position)
		archived(t, cfg.Archive.Path, id, records[:c.archived])
		l, err := wal.Open(cfg.Log.Dir, wal.Options{Consumers: []string{Archive, Publish}})
		if err != nil {
			t.Fatal(err)
		}
		b := bornBefore{archive: cfg.Archive, log: l.Consumer(Publish), position: l.Consumer(Publish).Stored()}
		var got []mqttetl.Seq
		err = b.each(t.Context(), func(r *mqttetl.Record) error { got = append(got, r.Seq); return nil })
		l.Close()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("archived up to %d, position %d: births %v, want %v", c.archived, c.position, got, c.want)
		}
	}
}

// Births that the log still holds are found in a log that has been trimmed, although no
// archive says how far it goes.
func TestBirthsOfATrimmedLog(t *testing.T) {
	for name, archived := range map[string]mqttetl.Seq{"no archive": 0, "an older archive": 1} {
		t.Run(name, func(t *testing.T) { birthsOfATrimmedLog(t, archived) })
	}
}

func birthsOfATrimmedLog(t *testing.T, upTo mqttetl.Seq) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	a := &config.Archive{Path: filepath.Join(dir, "telemetry.db"), Latest: true}
	records := []mqttetl.Record{pressRecord(t, 1, "NBIRTH", pressBirth), pressRecord(t, 2, "NDATA", pressData), pressRecord(t, 3, "NBIRTH", pressBirth)}
	archived(t, a.Path, trimmed(t, path, records), records[:upTo])
	l, err := wal.Open(path, wal.Options{Consumers: []string{Publish}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if s := l.Stats(); s.First != 3 {
		t.Fatalf("the log begins at %d, want 3", s.First)
	}
	b := bornBefore{archive: a, log: l.Consumer(Publish), position: l.Consumer(Publish).Stored()}
	if upTo == 0 {
		b.archive = nil
	}
	var got []mqttetl.Seq
	if err := b.each(t.Context(), func(r *mqttetl.Record) error { got = append(got, r.Seq); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []mqttetl.Seq{3}
	if upTo > 0 {
		want = []mqttetl.Seq{1, 3}
	}
	if !slices.Equal(got, want) {
		t.Errorf("births %v, want %v", got, want)
	}
}

// trimmed writes records into the log, of which publish has had all and only the last remains.
func trimmed(t *testing.T, dir string, records []mqttetl.Record) (id string) {
	t.Helper()
	l, err := wal.Open(dir, wal.Options{Consumers: []string{Publish}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	defer func() { stop(); <-ended }()
	c := l.Consumer(Publish)
	if _, err := c.Seek(0); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	for i := range records {
		b := &mqttetl.Batch{Source: "plant", Done: func(_ mqttetl.Seq, err error) { done <- err }}
		b.Append(1, records[i].Message)
		l.Append(b)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if _, err := c.Next(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	c.Commit(l.Stats().Last)
	for l.Stats().First < l.Stats().Last {
		<-time.After(time.Millisecond)
	}
	return l.ID()
}

// archived writes records into the archive, if there are any.
func archived(t *testing.T, path, id string, records []mqttetl.Record) {
	t.Helper()
	if len(records) == 0 {
		return
	}
	a, err := archive.OpenWith(path, id, store.Options{Latest: true})
	if err == nil {
		err = a.Append(records)
	}
	if err == nil {
		err = a.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

// failing is a log that cannot be read so many times.
type failing struct{ times int }

func (f *failing) Again(mqttetl.Seq) ([]mqttetl.Record, error) {
	if f.times--; f.times >= 0 {
		return nil, errors.New("being upgraded")
	}
	return nil, nil
}

// Births that cannot be read at first are no matter for a warning; those that are given up are.
func TestLearningWarnsInTheEnd(t *testing.T) {
	for _, c := range []struct{ times, want int }{{0, 0}, {learnTries - 1, 0}, {learnTries, 1}} {
		synctest.Test(t, func(t *testing.T) {
			var said bytes.Buffer
			m := publishPart{before: &bornBefore{log: &failing{c.times}, position: 1}, logger: slog.New(slog.NewTextHandler(&said, nil))}
			m.learn(t.Context())
			if got := strings.Count(said.String(), "level=WARN"); got != c.want {
				t.Errorf("%d failures: %d warnings, want %d", c.times, got, c.want)
			}
		})
	}
}

// The service starts, and commits what comes, while the births of many nodes are read
// for the consumer that publishes; it stops without waiting for them.
func TestStartDoesNotWaitForBirths(t *testing.T) {
	const nodes = 10_000
	dir := t.TempDir()
	nobody, err := servers.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	route := transform.Route{Name: "metrics", Topic: "spBv1.0/#", Decode: "sparkplug_b", Publish: "sp", Columns: []transform.Column{{Name: "metric", Type: store.Text}}}
	cfg := &config.Config{
		Log: config.Log{Dir: filepath.Join(dir, "log"), MaxSize: 1 << 30}, Routes: []transform.Route{route},
		Archive: &config.Archive{Path: filepath.Join(dir, "telemetry.db"), Latest: true, Batch: config.Batch{Count: 10_000, Period: time.Second}},
		NATS:    &config.NATS{URL: "nats://" + nobody, Stream: "S", SubjectPrefix: "mqtt"},
	}
	records := make([]mqttetl.Record, nodes)
	for i := range records {
		records[i] = pressRecord(t, mqttetl.Seq(i+1), "NBIRTH", pressBirth)
		records[i].Topic = fmt.Appendf(nil, "spBv1.0/plant/NBIRTH/press%d", i+1)
	}
	archived(t, cfg.Archive.Path, logged(t, cfg.Log.Dir, records, nodes), records)

	begun := time.Now()
	p, err := Open(cfg, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	opened := time.Since(begun)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() { stop(); <-ended }()
	done := make(chan error, 1)
	b := &mqttetl.Batch{Source: "plant", Done: func(_ mqttetl.Seq, err error) { done <- err }}
	b.Append(1, records[0].Message)
	p.Log().Append(b)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	committed := time.Since(begun)
	var publish *publishPart
	for _, a := range p.of(Consumers) {
		if part, ok := a.Part.(*publishPart); ok {
			publish = part
		}
	}
	if publish.learning() == "" {
		t.Errorf("the births are known when the first message is committed, after %v", committed)
	}
	if why := publish.Ready(); why != "" {
		t.Errorf("not ready while it learns: %s", why)
	}
	for publish.before.read.Load() < 500 {
		<-time.After(time.Millisecond)
	}
	stop()
	<-ended
	ended <- nil
	t.Logf("opened after %v, the first commit after %v, %d births read after %v", opened, committed, publish.before.read.Load(), time.Since(begun))
	if n := publish.before.read.Load(); n == nodes {
		t.Errorf("it stops when all of %d births are read", n)
	}
}

// logged writes records into the log, of which the consumer publish has had
// those up to position.
func logged(t *testing.T, dir string, records []mqttetl.Record, position mqttetl.Seq) (id string) {
	t.Helper()
	l, err := wal.Open(dir, wal.Options{Consumers: []string{Archive, Publish}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	done := make(chan error, 1)
	b := &mqttetl.Batch{Source: "plant", Done: func(_ mqttetl.Seq, err error) { done <- err }}
	for i := range records {
		b.Append(1, records[i].Message)
	}
	l.Append(b)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c := l.Consumer(Publish)
	if _, err := c.Seek(0); err != nil {
		t.Fatal(err)
	}
	for got := mqttetl.Seq(0); got < position; {
		recs, err := c.Next(t.Context(), int(position-got))
		if err != nil {
			t.Fatal(err)
		}
		got += mqttetl.Seq(len(recs))
	}
	if position > 0 {
		c.Commit(position)
	}
	l.Append(&mqttetl.Batch{Done: func(_ mqttetl.Seq, err error) { done <- err }}) // the position travels with a commit
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(fmt.Errorf("log: %w", err))
	}
	return l.ID()
}
