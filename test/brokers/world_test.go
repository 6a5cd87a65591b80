package brokers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // reads the archive independently of sink/archive

	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/test/service"
)

// patience bounds every wait; one that ends well needs a fraction of it.
const patience = time.Minute

// binary is the mqttetl of the checkout.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mqttetl-brokers-")
	if err != nil {
		panic(err)
	}
	if binary, err = service.Build(context.Background(), dir, nil); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// broker is a broker that runs, and how to reach it.
type broker struct {
	url        string
	user, pass string
	tls        dial.TLS
}

// world is a mqttetl process between a broker and its stores.
type world struct {
	*service.Service
	t *testing.T
	row
	broker
}

// newWorld writes the configuration: a source with filters, and one with "#".
func newWorld(t *testing.T, r row, b broker, keepalive time.Duration) *world {
	t.Helper()
	svc, err := service.Bare(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{svc, t, r, b}
	common := fmt.Sprintf("url: %q, version: %q, username: %q, password: %q, keepalive: %s, tls: {ca: %q, cert: %q, key: %q}",
		b.url, r.version, b.user, b.pass, keepalive, b.tls.CA, b.tls.Cert, b.tls.Key)
	common = strings.NewReplacer(`username: "", password: "", `, "", `, tls: {ca: "", cert: "", key: ""}`, "").Replace(common)
	share := ""
	if r.share {
		share = ", share: group, connections: 2"
	}
	text := fmt.Sprintf(`sources:
  - {name: some, client_id: etl, subscribe: ["e/+/x", "d/#", kept], %s%s}
  - {name: all, client_id: etl-all, subscribe: ["#"], %s}
log: {dir: %q, max_size: 64MiB}
archive: {path: %q, batch: {period: 20ms}}
http: {listen: %q}
`, common, share, common, w.LogDir(), w.Archive(), w.HTTP)
	if err := w.Configure(text); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Kill()
		if t.Failed() {
			t.Logf("mqttetl wrote:\n%s", w.Output())
		}
	})
	return w
}

// start runs mqttetl and waits until all is subscribed.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := errors.Join(w.Start(), w.Ready(ctx)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) eventually(what string, cond func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			w.t.Fatalf("waited %v in vain: %s", patience, what)
		case <-again.C:
		}
	}
}

func (w *world) ready() bool {
	s, err := w.Status(w.t.Context())
	return err == nil && s.Ready
}

// source is how often the first source has connected again, and how many
// redelivered messages it has seen, in this process.
func (w *world) source() (reconnects, redelivered int) {
	w.t.Helper()
	s, err := w.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return int(s.Sources[0].Reconnects), int(s.Sources[0].Redelivered)
}

// archived is one row of the archive.
type archived struct {
	topic, payload string
	flags          int
}

// rows are the archived messages of a source.
func (w *world) rows(source string) (rows []archived) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.Archive()+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	found, err := db.Query(`SELECT v.topic, v.payload, m.flags FROM msg v JOIN messages m ON m.seq = v.seq WHERE v.source = ? ORDER BY v.seq`, source)
	if err != nil {
		w.t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var a archived
		var payload []byte
		if err := found.Scan(&a.topic, &payload, &a.flags); err != nil {
			w.t.Fatal(err)
		}
		a.payload = string(payload)
		rows = append(rows, a)
	}
	if err := found.Err(); err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// has counts the archived rows of a source with a payload.
func (w *world) has(source, payload string) (n int) {
	for _, r := range w.rows(source) {
		if r.payload == payload {
			n++
		}
	}
	return n
}

// connect makes a client of the broker.
func (w *world) connect(o client.Options) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	u, err := url.Parse(w.url)
	if err != nil {
		return nil, err
	}
	d := dial.Dialer{TLS: w.tls}
	conn, err := d.Dial(ctx, u)
	if err != nil {
		return nil, err
	}
	o.Version = client.Version311
	if w.version == "5" {
		o.Version = client.Version5
	}
	o.Username, o.KeepAlive = w.user, 30
	if w.pass != "" {
		o.Password = []byte(w.pass)
	}
	return client.Connect(context.WithoutCancel(ctx), conn, o)
}

// publish publishes with QoS 1 and waits for the acknowledgements.
func (w *world) publish(retain bool, topic string, payloads ...string) {
	w.t.Helper()
	c, err := w.connect(client.Options{ClientID: "publisher", CleanStart: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Disconnect(0)
	for _, p := range payloads {
		if _, err := c.Publish(&client.Message{Topic: topic, Payload: []byte(p), QoS: 1, Retain: retain}); err != nil {
			w.t.Fatalf("publish to %s: %v", topic, err)
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := c.Drain(ctx); err != nil {
		w.t.Fatalf("publish to %s: %v", topic, err)
	}
}
