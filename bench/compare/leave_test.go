package compare

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// shuffler is a proxy that swaps every 50th message to the broker with the next
// one, and repeats every 70th.
type shuffler struct {
	addr              string
	swapped, repeated atomic.Uint64
}

func startShuffler(t *testing.T, broker string) *shuffler {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &shuffler{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", broker)
			if err != nil {
				c.Close()
				return
			}
			go func() { defer c.Close(); pass(c, b) }()
			go func() { defer b.Close(); s.shuffle(b, c) }()
		}
	}()
	return s
}

func pass(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		to.Write(buf[:n])
	}
}

func (s *shuffler) shuffle(to, from net.Conn) {
	in := wire.NewInput(64 << 10)
	var held []byte
	for n := 0; ; {
		first, body, err := in.Await(from)
		if err != nil {
			return
		}
		p := wire.AppendPacket(nil, first, body)
		if first>>4 == wire.Publish {
			switch n++; {
			case n%50 == 0 && held == nil:
				held = p
				continue
			case n%70 == 0:
				p = append(p, p...)
				s.repeated.Add(1)
			}
			if held != nil {
				p, held = append(p, held...), nil
				s.swapped.Add(1)
			}
		} else if held != nil {
			p, held = append(held, p...), nil
		}
		if _, err := to.Write(p); err != nil {
			return
		}
	}
}

// streams are the names of a server's streams.
func streams(t *testing.T, js jetstream.JetStream) (names []string) {
	t.Helper()
	list := js.StreamNames(t.Context())
	for n := range list.Name() {
		names = append(names, n)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

func startJetStream(t *testing.T) (url string, js jetstream.JetStream) {
	t.Helper()
	n, err := embedded.StartNATS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	nc, err := nats.Connect(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return n.URL(), js
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	url, js := startJetStream(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cfg := config(t, `^(nats/core|jetstream/memory/async)$`)
	cfg.NATS, cfg.Rounds, cfg.Duration = url, 50, 300*time.Millisecond
	during := 0
	cfg.Progress = func(p Progress) {
		if p.Round == 2 && p.Case == 2 {
			if len(streams(t, js)) == 1 {
				during++
			}
			cancel()
		}
	}
	r := compareIn(ctx, t, cfg)
	if !r.Interrupted || r.Err() == nil || during == 0 {
		t.Errorf("interrupted %v, %v, %d times a stream", r.Interrupted, r.Err(), during)
	}
	for i, want := range []int{2, 1} {
		if c := r.Cases[i]; len(c.Rounds) != want || !c.Incomplete || c.Error != "" || c.Summary.PublishRate.N != want {
			t.Errorf("%s: %d rounds, incomplete %v, error %q", c.ID, len(c.Rounds), c.Incomplete, c.Error)
		}
	}
	if left := streams(t, js); len(left) > 0 {
		t.Errorf("streams %v stay", left)
	}
}

func TestLeftoversOfAKilledRun(t *testing.T) {
	t.Parallel()
	url, js := startJetStream(t)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	killed, alive := newOwner("killed"), newOwner("alive")
	killed.PID = dead.Process.Pid
	far := newOwner("far")
	far.Host, far.Begun = "elsewhere.example", time.Now().Add(-time.Hour)
	for name, description := range map[string]string{
		streamRoot + "KILLED": killed.String(), streamRoot + "ALIVE": alive.String(), streamRoot + "FAR": far.String(),
		streamRoot + "FOREIGN": "not ours", "OTHER": killed.String(),
	} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}, Description: description}); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config(t, `^nats/core$`)
	cfg.NATS = url
	for _, o := range []owner{killed, alive} {
		dir := filepath.Join(cfg.Dir, dirRoot+o.Run+"-1")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ownerFile), []byte(o.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := compare(t, cfg)
	left := streams(t, js)
	slices.Sort(left)
	if want := []string{streamRoot + "ALIVE", streamRoot + "FAR", streamRoot + "FOREIGN", "OTHER"}; !slices.Equal(left, want) {
		t.Errorf("streams %v, want %v", left, want)
	}
	dirs, _ := filepath.Glob(filepath.Join(cfg.Dir, "*"))
	if len(dirs) != 1 || !strings.Contains(dirs[0], "alive") {
		t.Errorf("directories %v", dirs)
	}
	if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, streamRoot+"KILLED") || !strings.Contains(notes, dirRoot+"killed") {
		t.Errorf("notes %q", r.Notes)
	}
}
