package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestScore(t *testing.T) {
	const s = int64(time.Second)
	recorded := []int64{100 * s, 101 * s, 101 * s, 50 * s, 60 * s, 3600 * s}
	for _, c := range []struct {
		name string
		pace Pace
		want []time.Duration // seconds; -1 for at once
	}{
		{"as recorded", Pace{Speed: 1}, []time.Duration{0, 1, 1, 1, 11, 3551}},
		{"half as fast", Pace{Speed: 0.5}, []time.Duration{0, 2, 2, 2, 22, 7102}},
		{"silences of 2 s", Pace{Speed: 1, MaxGap: 2 * time.Second}, []time.Duration{0, 1, 1, 1, 3, 5}},
		{"one a second", Pace{Rate: 1, Speed: 7}, []time.Duration{0, 1, 2, 3, 4, 5}},
		{"at once", Pace{}, []time.Duration{-1, -1, -1, -1, -1, -1}},
	} {
		p := score{pace: c.pace}
		for i, at := range recorded {
			due, ok := p.due(at)
			if ok != (c.want[i] >= 0) || ok && due != c.want[i]*time.Second {
				t.Errorf("%s: record %d is due at %v, %v, want %v s", c.name, i, due, ok, int64(c.want[i]))
			}
		}
	}
}

// A time beyond what a Duration holds is not one in the past.
func TestScoreOfCenturies(t *testing.T) {
	for _, pace := range []Pace{{Speed: 1e-300}, {Speed: 1e-3}, {Rate: 1e-20}} {
		p := score{pace: pace}
		p.due(0)
		if at, ok := p.due(int64(56 * 365 * 24 * time.Hour)); !ok || at < 50*365*24*time.Hour {
			t.Errorf("%+v: %v, %v", pace, at, ok)
		}
	}
}

func TestPauseHoldsEverythingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBeat()
		begin := time.Now()
		go func() {
			time.Sleep(time.Second)
			b.toggle()
			time.Sleep(time.Hour)
			b.toggle()
		}()
		// The last stretch is slept by the system's clock, which a bubble does not
		// move: stop short of it.
		d, _, _ := b.left(10 * time.Second)
		if d != 10*time.Second {
			t.Errorf("%v are left of 10 s", d)
		}
		time.Sleep(time.Hour + 2*time.Second)
		if d, paused, _ := b.left(10 * time.Second); paused || d != 8*time.Second {
			t.Errorf("%v are left after %v with an hour's pause, want 8 s", d, time.Since(begin))
		}
		if d, paused := b.elapsed(); paused || d != 2*time.Second {
			t.Errorf("%v have passed with an hour's pause, want 2 s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.toggle()
		if err := b.wait(ctx, 0, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while paused: %v", err)
		}
		if d, paused := b.elapsed(); !paused || d != 2*time.Second {
			t.Errorf("while paused %v have passed, want 2 s", d)
		}
	})
}

func TestRewrite(t *testing.T) {
	m := func(s string) Map {
		v, err := ParseMap(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	w := Rewrite{Prefix: "p/", Maps: []Map{m(`a/(.*)=b/$1`), m(`a/.*=never`), m(`(?P<x>[^/]+)/end=${x}-end`), m(`(m)(.)=${1}x$2$$S$/$0$`)}}
	for topic, want := range map[string]string{"a/1/2": "p/b/1/2", "xa/1": "p/xa/1", "q/end": "p/q-end", "q/end/": "p/q/end/", "mn": "p/mxn$S$/mn$", "": "p/"} {
		if got := string(w.Topic([]byte(topic))); got != want {
			t.Errorf("%q becomes %q, want %q", topic, got, want)
		}
	}
	for _, bad := range []string{"", "a", "=b", "(=b", "a=", "a=+/b", "a=#", "a=b\x00", "a=$1", "(a)=$2", "(a)=$01", "(a)=${1x}", "(a)=${}", "(a)=$99999999999999999999"} {
		if _, err := ParseMap(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	for bad, hint := range map[string]string{"(a)=$1x": "${1}x is", "(?P<n>a)=$n_b": "${n}_b is", "(a)=$1ä/b": "${1}ä is", "a=$SYS/b": "$$ a dollar"} {
		if _, err := ParseMap(bad); !strings.Contains(mqttetl.Hint(err), hint) {
			t.Errorf("%q: %v; hint: %s", bad, err, mqttetl.Hint(err))
		}
	}
}

func TestResumeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	plan := Plan{Settings: "s", LogID: "l", IDs: "i", Selection: mqttetl.Selection{To: 7, Since: time.Unix(5, 0).UTC()}}
	open := func() *Resume {
		t.Helper()
		r, err := OpenResume(path, Plan{Settings: "s", LogID: "l", IDs: "other", Selection: mqttetl.Selection{To: 99}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Plan.IDs != "i" || r.Plan.Selection.To != 7 || !r.Plan.Selection.Since.Equal(plan.Selection.Since) {
			t.Errorf("the plan is %+v", r.Plan)
		}
		return r
	}
	r, err := OpenResume(path, plan)
	if err != nil || r.Position() != (Position{}) {
		t.Fatalf("a new file: %+v, %v", r, err)
	}
	r.Close()
	for n := range mqttetl.Seq(5) { // the position of each write is there after a kill
		r := open()
		if r.Position().Seq != n {
			t.Fatalf("position %+v, want %d", r.Position(), n)
		}
		want := Position{Pass: 1, Seq: n + 1, Played: uint64(n), Done: n == 4}
		if err := r.Record(want); err != nil {
			t.Fatal(err)
		}
		r.file.Close()
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// A write that was torn leaves the position before.
		torn := bytes.Clone(whole)
		at := r.slots + int64(r.number+1)%2*slotSize
		copy(torn[at+40:at+60], "####################")
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		again := open()
		if again.Position().Seq != n {
			t.Errorf("torn: position %+v, want %d", again.Position(), n)
		}
		again.Close()
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var other *OtherReplay
	for _, plan := range []Plan{{Settings: "other", LogID: "l"}, {Settings: "s", LogID: "other"}} {
		if _, err := OpenResume(path, plan); !errors.As(err, &other) || other.Was.Settings != "s" || other.Is.Settings != plan.Settings {
			t.Errorf("the file of another replay: %v", err)
		}
	}
}

// few is a Source of numbered records behind a position, of which record 3 is large.
func few(n int, large int) func(mqttetl.Seq, uint64) Source {
	return func(after mqttetl.Seq, _ uint64) Source {
		var recs []mqttetl.Record
		for i := after + 1; i <= mqttetl.Seq(n); i++ {
			r := mqttetl.Record{Seq: i * 10, Message: mqttetl.Message{Topic: []byte("t"), Payload: fmt.Append(nil, i)}} // numbers with holes
			if i == 3 {
				r.Payload = make([]byte, large)
			}
			recs = append(recs, r)
		}
		return &slice{recs}
	}
}

type slice struct{ recs []mqttetl.Record }

func (s *slice) Next(context.Context) ([]mqttetl.Record, error) {
	if len(s.recs) == 0 {
		return nil, io.EOF
	}
	recs := s.recs
	s.recs = nil
	return recs, nil
}

// A record over the server's limit ends the replay, or is counted and passed.
func TestRefusedRecords(t *testing.T) {
	n, err := embedded.StartNATS(t.TempDir(), func(o *server.Options) { o.MaxPayload = 4096 })
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	for _, stream := range []string{"", "S"} {
		for _, skip := range []bool{false, true} {
			t.Run(fmt.Sprintf("stream=%q skip=%v", stream, skip), func(t *testing.T) {
				ctx, stop := context.WithCancelCause(t.Context())
				p := NewPlayer(Config{SkipRefused: skip, Open: few(5, 5000)})
				cfg := forward.Config{URL: n.URL(), SubjectPrefix: fmt.Sprint(stream, skip), Stream: fmt.Sprint(stream, skip), LogID: "0123456789abcdef", Key: []byte("0123456789abcdef")}
				var to Destination
				var err error
				if stream == "" {
					to, err = OpenCore(ctx, cfg, p.Confirmed, stop)
				} else {
					to, _, err = OpenJetStream(ctx, cfg, 0, p.Confirmed, p.Refused, stop)
				}
				if err != nil {
					t.Fatal(err)
				}
				defer to.Close()
				err = p.Run(ctx, to)
				a := p.Account()
				var refusal *RefusedError
				switch {
				case skip && (err != nil || a.Selected != 5 || a.Sent != 4 || a.Confirmed != 4 || a.Refused != 1 || a.Refusal.Seq != 30):
					t.Errorf("%+v, %v", a, err)
				case !skip && (!errors.As(err, &refusal) || refusal.Seq != 30 || p.Position().Seq > 20):
					t.Errorf("%v, position %d", err, p.Position().Seq)
				case !skip && stream != "":
					again, end, err := OpenJetStream(t.Context(), cfg, 0, p.Confirmed, p.Refused, func(error) {})
					if err != nil || end > 20 {
						t.Fatalf("the stream ends with %d, behind what it does not hold, %v", end, err)
					}
					again.Close()
				}
			})
		}
	}
}

// Headers and subjects over core NATS are those of the forwarder.
func TestCoreMessages(t *testing.T) {
	n, err := embedded.StartNATS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	nc, err := nats.Connect(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("mqtt.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	r := mqttetl.Record{Seq: 42, Time: -1, Source: "plant ä", Message: mqttetl.Message{Topic: []byte("a b//c"), Payload: []byte("x\r\n\x00"),
		Flags: 1 | mqttetl.FlagRetain, Properties: mqttetl.Properties{1, 1, 0x26, 0, 1, 'k', 0, 2, 0xff, '\n'}}}
	confirmed := 0
	to, err := OpenCore(t.Context(), forward.Config{URL: n.URL(), SubjectPrefix: "mqtt", LogID: "0123456789abcdef"},
		func(_ mqttetl.Seq, n int) { confirmed += n }, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := errors.Join(to.Send(t.Context(), &r), to.Drain(t.Context())); err != nil || confirmed != 1 {
		t.Fatalf("%d confirmed, %v", confirmed, err)
	}
	m, err := sub.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want := nats.Header{"Nats-Msg-Id": {"0123456789abcdef-42"}, "Mqtt-Time": {"1969-12-31T23:59:59.999999999Z"}, "Mqtt-Source": {"plant ä"}, "Mqtt-Qos": {"1"},
		"Mqtt-Retain": {"1"}, "Mqtt-Payload-Format": {"1"}, "Mqtt-User-k": {"%FF%0A"}}
	if m.Subject != "mqtt.a%20b.%.c" || string(m.Data) != "x\r\n\x00" || fmt.Sprint(m.Header) != fmt.Sprint(want) {
		t.Errorf("%s %q %v, want %v", m.Subject, m.Data, m.Header, want)
	}
}

func FuzzResume(f *testing.F) {
	f.Add(append([]byte(beginning+"\"s\"}\n"), append(slot(1, Position{Seq: 5}), slot(2, Position{Seq: 6})...)...))
	f.Fuzz(func(t *testing.T, p []byte) {
		var r Resume
		if err := r.parse(p); err == nil && r.slots == 0 {
			t.Fatal("a file without a plan")
		}
	})
}

// guarded is a Source that notices when it is used.
type guarded struct {
	Source
	uses atomic.Int64
}

func (g *guarded) Next(ctx context.Context) ([]mqttetl.Record, error) {
	g.uses.Add(1)
	return g.Source.Next(ctx)
}

type failing struct{ Destination }

func (failing) Send(context.Context, *mqttetl.Record) error { return errors.New("gone") }

// What is read ahead is read no more when the replay has ended: the archive may
// be closed then.
func TestSourceIsLeftAloneAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &guarded{Source: &endless{n: 1 << 20, step: 1}}
		p := NewPlayer(Config{Open: func(mqttetl.Seq, uint64) Source { return from }})
		if err := p.Run(t.Context(), failing{&noting{}}); err == nil || err.Error() != "gone" {
			t.Errorf("Run: %v", err)
		}
		uses := from.uses.Load()
		synctest.Wait()
		if now := from.uses.Load(); now != uses {
			t.Errorf("read %d times, then %d more", uses, now-uses)
		}
	})
}

// slowly is a Source that takes its time.
type slowly struct{ Source }

func (s slowly) Next(ctx context.Context) ([]mqttetl.Record, error) {
	<-time.After(60 * time.Millisecond)
	return s.Source.Next(ctx)
}

// The time that it takes to read the first records is none of the recording's.
func TestPaceBeginsWithTheFirstRecord(t *testing.T) {
	const step = 20 * time.Millisecond
	p := NewPlayer(Config{Pace: Pace{Speed: 1}, Open: func(mqttetl.Seq, uint64) Source { return slowly{&endless{n: 2, step: int64(step)}} }})
	to := &noting{confirmed: p.Confirmed}
	if err := p.Run(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if gap := to.at[1].Sub(to.at[0]); gap < step*3/4 {
		t.Errorf("%v between two records, recorded with %v", gap, step)
	}
}
