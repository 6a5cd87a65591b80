package pipeline

import (
	"context"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
	"github.com/mqttetl/mqttetl/sink/wal"
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
		if c.archived > 0 {
			a, err := archive.OpenWith(cfg.Archive.Path, id, store.Options{Latest: true})
			if err == nil {
				err = a.Append(records[:c.archived])
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
		var got []mqttetl.Seq
		if err := readBirths(cfg, func(r *mqttetl.Record) error { got = append(got, r.Seq); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("archived up to %d, position %d: births %v, want %v", c.archived, c.position, got, c.want)
		}
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
