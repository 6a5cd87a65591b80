package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mqttetl/mqttetl/test/service"
)

// odd is a message at an edge of what MQTT allows.
type odd struct {
	name       string
	topic      string
	payload    []byte
	user       int    // user properties
	deadLetter string // what the reason says if NATS cannot take it; "": it can
}

// TestOddMessages: whatever a broker delivers is stored byte for byte, and
// forwarded or dead-lettered with the reason; nothing is stuck behind it.
func TestOddMessages(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1})
	odds := []odd{
		{name: "plain", topic: "e2e/plain", payload: []byte("21.5")},
		{name: "empty payload", topic: "e2e/empty"},
		{name: "NUL", topic: "e2e/nul", payload: []byte("a\x00b")},
		{name: "only NUL", topic: "e2e/nul", payload: []byte{0}},
		{name: "invalid UTF-8", topic: "e2e/bytes", payload: []byte{0xff, 0xfe, 'x'}},
		{name: "empty levels", topic: "e2e//a//", payload: []byte("levels")},
		{name: "what a subject cannot hold", topic: "e2e/a b/c.d/50%/ä", payload: []byte("escaped")},
		{name: "long topic", topic: "e2e/" + strings.Repeat(strings.Repeat("x", 199)+"/", 150), payload: []byte("shortened")},
		{name: "64 KiB topic", topic: "e2e/" + strings.Repeat("x", 65535-4), payload: []byte("t"), deadLetter: "header"},
		{name: "1 MiB", topic: "e2e/big", payload: bytes.Repeat([]byte("0123456789abcdef"), 1<<16), deadLetter: "max"},
		{name: "5 MiB", topic: "e2e/big", payload: bytes.Repeat([]byte{0, 1, 2, 3, 4}, 1<<20), deadLetter: "max"},
		{name: "1,000 user properties", topic: "e2e/user", payload: []byte("u"), user: 1000},
		{name: "last", topic: "e2e/last", payload: []byte("end")},
	}
	for _, o := range odds {
		publishOnce(w, o)
	}
	_, err := w.Drained(w.ctx, len(odds))
	w.must(err)
	// Dead letters follow the rows into the archive.
	want := 0
	for _, o := range odds {
		if o.deadLetter != "" {
			want++
		}
	}
	letters := awaitDeadLetters(w, want)
	_, err = w.Stop()
	w.must(err)
	w.must(w.Verify(w.ctx))
	rows, err := ReadArchive(w.Archive())
	w.must(err)
	w.must(CheckNumbers(rows, 1))
	stream, err := ReadStream(w.ctx, w.nats.URL(), "E2E")
	w.must(err)
	at := 0
	for i, o := range odds {
		if rows[i].Topic != o.topic || rows[i].Payload != string(o.payload) {
			t.Errorf("%s: row %d is %.40q %.40q", o.name, i+1, rows[i].Topic, rows[i].Payload)
		}
		if o.deadLetter != "" {
			if !strings.Contains(letters[int64(i+1)], o.deadLetter) {
				t.Errorf("%s: dead letter %q, want one that says %q", o.name, letters[int64(i+1)], o.deadLetter)
			}
			continue
		}
		if at == len(stream) {
			t.Fatalf("%s: the stream ends before it", o.name)
		}
		if m := stream[at]; m.Payload != string(o.payload) || !strings.HasSuffix(m.ID, fmt.Sprintf("-%d", i+1)) {
			t.Errorf("%s: stream has %s %.40q on %s", o.name, m.ID, m.Payload, m.Subject)
		}
		at++
	}
	if at != len(stream) || len(letters) != want {
		t.Errorf("%d messages and %d dead letters, want %d and %d", len(stream), len(letters), at, want)
	}
}

// publishOnce publishes one message and waits for its PUBACK.
func publishOnce(w *world, o odd) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.broker.Addr)
	w.must(err)
	client := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: 30 * time.Second})
	_, err = client.Connect(w.ctx, &paho.Connect{ClientID: "odd", CleanStart: true, KeepAlive: 30})
	w.must(err)
	p := &paho.Publish{Topic: o.topic, QoS: 1, Payload: o.payload, Properties: &paho.PublishProperties{}}
	for i := range o.user {
		p.Properties.User.Add(fmt.Sprintf("name%d", i%500), fmt.Sprintf("value: %d ä", i))
	}
	if _, err := client.Publish(w.ctx, p); err != nil {
		w.t.Fatalf("%s: %v", o.name, err)
	}
	w.must(client.Disconnect(&paho.Disconnect{}))
}

// awaitDeadLetters waits until the archive holds n dead letters and returns
// their reasons by Seq.
func awaitDeadLetters(w *world, n int) map[int64]string {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.Archive()+"?mode=ro")
	w.must(err)
	defer db.Close()
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		letters := map[int64]string{}
		rows, err := db.Query(`SELECT seq, reason FROM dead_letters WHERE stage = 'forward'`)
		w.must(err)
		for rows.Next() {
			var seq int64
			var reason string
			w.must(rows.Scan(&seq, &reason))
			letters[seq] = reason
		}
		w.must(rows.Err())
		if len(letters) >= n {
			return letters
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("%d of %d dead letters: %v", len(letters), n, letters)
		}
	}
}
