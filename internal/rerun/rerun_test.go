package rerun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
)

const (
	logID = "0123456789abcdef"
	first = int64(1_767_642_776_000_000_000) // receipt of record 1; each later one comes a second after
)

// TestMain is also the worker that applies routes with jq.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == transform.WorkCommand {
		if err := transform.Work(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	m.Run()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// numbers is an archive of n numbers on the topics a/0 to a/2; one in a thousand
// is no number.
func numbers(t *testing.T, n int, letters ...mqttetl.DeadLetter) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a.db")
	a, err := archive.Open(path, logID)
	must(t, err)
	var recs []mqttetl.Record
	for i := range n {
		payload := fmt.Sprint(i)
		if i%1000 == 999 {
			payload = "none"
		}
		recs = append(recs, mqttetl.Record{Seq: mqttetl.Seq(i + 1), Time: first + int64(i)*1e9, Source: "plant",
			Message: mqttetl.Message{Topic: fmt.Appendf(nil, "a/%d", i%3), Payload: []byte(payload)}})
	}
	must(t, errors.Join(a.Append(recs), a.Keep(&store.Made{Letters: letters}), a.Commit(), a.Close()))
	return path
}

func route(column string) []transform.Route {
	return []transform.Route{{Name: "numbers", Topic: "a/{part}", Decode: "json", Table: "numbers",
		Columns: []transform.Column{{Name: "n", Type: store.Integer, Path: column}}}}
}

func ask(t *testing.T, path, statement string) (list []string) {
	t.Helper()
	must(t, archive.Query(t.Context(), path, statement, func(_ []string, v []any) error {
		list = append(list, strings.TrimSpace(fmt.Sprintln(v...)))
		return nil
	}))
	return list
}

// check fails unless the table holds what the messages say, and nothing is left over.
func check(t *testing.T, path string) {
	t.Helper()
	if got := ask(t, path, `SELECT count(*), sum(n = CAST(payload AS INTEGER)) FROM numbers JOIN messages USING(seq)`); !slices.Equal(got, []string{"2997 2997"}) {
		t.Errorf("rows, right ones: %v", got)
	}
	if got := ask(t, path, `SELECT seq, stage FROM dead_letters ORDER BY seq`); !slices.Equal(got, []string{"1000 transform:numbers", "2000 transform:numbers", "3000 transform:numbers"}) {
		t.Errorf("dead letters: %q", got)
	}
	if got := ask(t, path, `SELECT name FROM sqlite_schema WHERE name LIKE 'mqttetl_new%' OR name LIKE 'mqttetl_old%' UNION ALL SELECT name FROM mqttetl_rerun`); len(got) > 0 {
		t.Errorf("left over: %v", got)
	}
}

func TestTableIsBuiltAnew(t *testing.T) {
	path := numbers(t, 3000)
	r, err := Table{Archive: path, Routes: route(".")}.Run(t.Context())
	must(t, err)
	if want := (Result{Table: "numbers", Rows: 2997, Messages: 3000, First: 1, Last: 3000, Are: 3}); *r != want {
		t.Errorf("got %+v, want %+v", *r, want)
	}
	check(t, path)
	since := Table{Archive: path, Routes: route(". + 1"), Since: time.Unix(0, first+2000*1e9), SinceText: "then"}
	r, err = since.Run(t.Context())
	must(t, err)
	if want := (Result{Table: "numbers", Rows: 2997, Messages: 1000, First: 2001, Last: 3000, Was: 1, Are: 1}); *r != want {
		t.Errorf("since: got %+v, want %+v", *r, want)
	}
	if got := ask(t, path, `SELECT sum(n = CAST(payload AS INTEGER)), sum(n = CAST(payload AS INTEGER) + 1) FROM numbers JOIN messages USING(seq)`); !slices.Equal(got, []string{"1998 999"}) {
		t.Errorf("rows of before, rows since: %v", got)
	}
	said := ""
	since.Since, since.SinceText, since.Say = time.Now(), "now", func(s string) { said = s }
	if r, err := since.Run(t.Context()); r != nil || err != nil || said != "no archived message was received since now: table numbers stays as it is" {
		t.Errorf("%+v, %v, %q", r, err, said)
	}
}

// What is interrupted at any moment is resumed by the same routes only.
func TestTableIsResumed(t *testing.T) {
	path := numbers(t, 3000)
	ctx, cancel := context.WithCancel(t.Context())
	job := Table{Archive: path, Routes: route("."), Resume: true, Say: func(string) {}, Progress: func(_, _ mqttetl.Seq) { cancel() }}
	if _, err := job.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	other := job
	other.Routes = route(". + 1")
	if _, err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the routes have changed") {
		t.Errorf("other routes: %v", err)
	}
	_, err := job.Run(t.Context())
	must(t, err)
	check(t, path)
}

// The service waits for the swap no longer than said: what is too far behind is
// kept, the old table stays, and the swap comes when it is near.
func TestTableIsSwappedWhenNear(t *testing.T) {
	path := numbers(t, 3000)
	_, err := Table{Archive: path, Routes: route(". + 1")}.Run(t.Context())
	must(t, err)
	r, err := open(t.Context(), Table{Archive: path, Routes: route(".")})
	must(t, err)
	defer r.close()
	must(t, r.store.Begin(t.Context(), archive.RerunState{First: 1}))
	r.at, r.swapTime = 1, time.Nanosecond
	for want := mqttetl.Seq(2); want < 5; want++ {
		if _, _, err := r.swap(t.Context()); !errors.Is(err, archive.ErrBehind) || r.at != want || r.store.State.Next != want {
			t.Fatalf("%v, at %d, next %d, want %d", err, r.at, r.store.State.Next, want)
		}
	}
	if got := ask(t, path, `SELECT (SELECT count(*) FROM numbers), (SELECT count(*) FROM mqttetl_new_numbers), (SELECT next FROM mqttetl_rerun)`); got[0] != "2997 3 4" {
		t.Errorf("rows before, rows now, next: %s", got[0])
	}
	_, _, err = r.build(t.Context())
	must(t, errors.Join(err, r.store.Discard(t.Context())))
	check(t, path)
}

// A dead letter is deleted when its object is in the stream, and stays otherwise.
func TestPublishedIsNoDeadLetter(t *testing.T) {
	r := transform.Route{Name: "numbers", Topic: "a/{part}", Decode: "json", Map: "{n: .}", Publish: "out.{part}"}
	stage := mqttetl.PublishStage(r.Name)
	path := numbers(t, 1000, mqttetl.DeadLetter{Seq: 7, Stage: stage, Reason: "no stream"}, mqttetl.DeadLetter{Seq: 1000, Stage: stage, Reason: "not JSON"})
	n, err := embedded.StartNATS(t.TempDir())
	must(t, err)
	defer n.Stop()
	p, err := Publish{Archive: path, Route: r, NATS: &config.NATS{URL: n.URL(), Stream: "T", SubjectPrefix: "mqtt"}}.Run(t.Context())
	if err != nil || p.Stage != stage || p.Gone != 1 || p.Stay != 1 || !strings.Contains(p.Why, "JSON") {
		t.Fatalf("%+v, %v", p, err)
	}
	if got := ask(t, path, `SELECT seq FROM dead_letters`); !slices.Equal(got, []string{"1000"}) {
		t.Errorf("dead letters: %v", got)
	}
	nc, err := nats.Connect(n.URL())
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	s, err := js.Stream(t.Context(), "T_MAPPED")
	must(t, err)
	m, err := s.GetMsg(t.Context(), 1)
	if err != nil || m.Subject != "out.0" || string(m.Data) != `{"n":6}` {
		t.Errorf("%+v, %v", m, err)
	}
}
