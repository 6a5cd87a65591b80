package door

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

func keep(l *wire.Login) { l.CleanStart = false }

// TestSentAgain: a message of QoS 1 whose PUBACK was not read is one record when the
// session sends it again. Everything that may be another message is another record. Over
// a Unix socket, where what has not been read is known to be unread.
func TestSentAgain(t *testing.T) {
	log := newFakeLog()
	path := filepath.Join(t.TempDir(), "door")
	d := open(t, log, Config{URL: "unix://" + path})
	attach := func(change ...func(*wire.Login)) (r raw, present bool) { // takes the connection before over
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		r = raw{nc, t}
		r.send(login(v311, "a", change...))
		return r, r.read(4) == "20020100"
	}
	long := strings.Repeat("long", 20_000)
	r, present := attach(keep)
	if present {
		t.Error("a session is present at the first connection")
	}
	r.send(message(2, "t", 1, false, "one"), message(2, "t", 2, false, "two"), message(2, "t", 3, false, long))
	want := []string{"t=one", "t=two", "t=" + long}
	await(t, "the PUBACKs, unread", func() bool { return d.Stats().Acknowledged == 3 })

	r, present = attach(keep)
	if !present {
		t.Error("the session is not present")
	}
	r.send(message(2|8, "t", 2, false, "two"), message(2|8, "t", 3, false, long))
	if got := r.read(8); got != "4002000240020003" {
		t.Errorf("the messages sent again get %s", got)
	}
	for _, other := range [][]byte{
		message(2, "t", 2, false, "two"),     // without DUP
		message(2|8, "t", 4, false, "two"),   // under another id
		message(2|8, "t", 2, false, "three"), // with another payload
		message(2|8, "u", 1, false, "one"),   // on another topic
		message(2|8, "t", 3, false, long+"!"),
	} {
		r.send(other)
		r.read(4)
	}
	want = append(want, "t=two", "t=two", "t=three", "u=one", "t="+long+"!")

	// All has been read. What has DUP now was lost when it was sent for the first time.
	r, _ = attach(keep)
	r.send(message(2|8, "t", 2, false, "three"), message(2|8, "t", 1, false, "one"))
	r.read(8)
	want = append(want, "t=three", "t=one")

	// A clean session knows nothing of the one before.
	r.send(message(2, "t", 2, false, "four"))
	await(t, "the PUBACK, unread", func() bool { return d.Stats().Acknowledged == 13 })
	if r, present = attach(); present {
		t.Error("a session is present for a client that wants none")
	}
	r.send(message(2|8, "t", 2, false, "four"))
	r.read(4)
	want = append(want, "t=four", "t=four")
	if got := log.texts(); !slices.Equal(got, want) {
		t.Errorf("records %.300q, want %.300q", got, want)
	}
}

// TestSameAgain: a message like the one before it, of the same id, that was lost with the link
// is no redelivery: neither over TCP after the PUBACK has come, nor within a connection of MQTT 5.
func TestSameAgain(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	for _, version := range []byte{v311, v5} {
		first, again := message(2, "t", 1, version == v5, "21.5"), message(2|8, "t", 1, version == v5, "21.5")
		r, _ := connected(t, d, login(version, string('a'+version), keep, func(l *wire.Login) {
			if version == v5 {
				expires(60)(l)
			}
		}))
		before := len(log.texts())
		r.send(first)
		r.read(4)
		if want := before + 2; version == v5 {
			r.send(again)
			r.read(4)
			if got := len(log.texts()); got != want {
				t.Errorf("%d records, want %d", got, want)
			}
		}
		before = len(log.texts())
		_ = r.Close()
		await(t, "no client", func() bool { return d.Stats().Clients == 0 })
		r, _ = connected(t, d, login(version, string('a'+version), keep))
		r.send(again)
		r.read(4)
		if got := len(log.texts()); got != before+1 {
			t.Errorf("version %d: %d records, want %d", version, got, before+1)
		}
		_ = r.Close()
		await(t, "no client", func() bool { return d.Stats().Clients == 0 })
	}
}

// TestUncommittedSentAgain: a message that is sent again before its first commit is
// acknowledged after that, and is one record.
func TestUncommittedSentAgain(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	r, _ := connected(t, d, login(v5, "a", keep, expires(60)))
	log.hold(true)
	r.send(message(2, "t", 7, true, "x"))
	await(t, "the batch", func() bool { log.mu.Lock(); defer log.mu.Unlock(); return len(log.waiting) == 1 })
	_ = r.Close()
	r, present := connected(t, d, login(v5, "a", keep, expires(60)))
	if !present {
		t.Error("the session is not present")
	}
	r.send(message(2|8, "t", 7, true, "x"))
	await(t, "the second batch", func() bool { log.mu.Lock(); defer log.mu.Unlock(); return len(log.waiting) >= 2 })
	log.hold(false)
	if got := r.read(4); got != "40020007" {
		t.Errorf("it gets %s", got)
	}
	if got := log.texts(); !slices.Equal(got, []string{"t=x"}) {
		t.Errorf("records %q", got)
	}
}

func expires(seconds uint32) func(*wire.Login) {
	return func(l *wire.Login) { l.Props = l.Props.AppendNumber(0x11, seconds) }
}

// TestQoS2: each packet is answered, over connections and a new process, and the message is one record.
func TestQoS2(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	r, _ := connected(t, d, login(v311, "a", keep))
	r.send(message(4, "t", 1, false, "x"))
	if got := r.read(4); got != "50020001" {
		t.Errorf("PUBLISH gets %s", got)
	}
	_ = r.Close()
	r, _ = connected(t, d, login(v311, "a", keep))
	r.send(message(4|8, "t", 1, false, "x"))
	if got := r.read(4); got != "50020001" {
		t.Errorf("PUBLISH sent again gets %s", got)
	}
	_ = r.Close()
	d = open(t, log, Config{}) // as after kill -9
	r, present := connected(t, d, login(v311, "a", keep))
	if !present {
		t.Error("after a restart the session is not present, although its packet ids are in the log")
	}
	r.send(message(4|8, "t", 1, false, "x"), []byte{0x62, 2, 0, 1})
	if got := r.read(8); got != "5002000170020001" {
		t.Errorf("PUBLISH sent again, and PUBREL, get %s", got)
	}
	r.send(message(4, "t", 1, false, "y"))
	r.read(4)
	if got := log.texts(); !slices.Equal(got, []string{"t=x", "t=y"}) {
		t.Errorf("records %q", got)
	}
	// An id belongs to the session: it goes with it.
	_ = r.Close()
	connected(t, d, login(v311, "a"))
	await(t, "no packet ids", func() bool {
		return len(log.allIDs()) == 0
	})
}

// TestIDsOfEndedSession: a session that has ended leaves no packet id to the next one,
// whatever the log has of it when that begins.
func TestIDsOfEndedSession(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	gone := func(r raw) { _ = r.Close(); await(t, "no client", func() bool { return d.Stats().Clients == 0 }) }
	log.hold(true)
	r, _ := connected(t, d, login(v5, "a", expires(60)))
	r.send(message(4, "t", 1, true, "A"))
	await(t, "A", func() bool { return log.pending() == 1 })
	gone(r)
	r, present := connected(t, d, login(v5, "a", expires(60)))
	if present {
		t.Error("clean start finds a session")
	}
	gone(r) // with B, which has not come
	log.hold(false)
	r, _ = connected(t, d, login(v5, "a", keep, expires(60)))
	r.send(message(4|8, "t", 1, true, "B"))
	if got := r.read(4); got != "50020001" {
		t.Errorf("B gets %s", got)
	}
	if got := log.texts(); !slices.Equal(got, []string{"t=A", "t=B"}) {
		t.Errorf("records %q, want A and B", got)
	}
}

// TestEndedSessionIsNotPresent: nor does the log's delay make it present, also not for the
// session after the next one, to which another id of it may come later.
func TestEndedSessionIsNotPresent(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	gone := func(r raw) { _ = r.Close(); await(t, "no client", func() bool { return d.Stats().Clients == 0 }) }
	r, _ := connected(t, d, login(v5, "a", keep))
	r.send(message(4, "t", 1, true, "A"))
	r.read(4)
	log.hold(true)
	gone(r) // and its session, which was to stay for no time
	r, present := connected(t, d, login(v5, "a", keep, expires(60)))
	if present {
		t.Error("a session that has ended is present")
	}
	gone(r) // with B, which has not come
	r, present = connected(t, d, login(v5, "a", keep, expires(60)))
	if !present {
		t.Error("a session is not present")
	}
	r.send(message(4|8, "t", 1, true, "B"), []byte{0xc0, 0})
	log.hold(false)
	r.read(6)
	await(t, "B", func() bool { return slices.Equal(log.texts(), []string{"t=A", "t=B"}) })
	gone(r)

	d = open(t, log, Config{}) // as after kill -9: the id of B is found, and goes with its session
	r, present = connected(t, d, login(v5, "a", keep))
	if !present {
		t.Error("after a restart the session is not present")
	}
	gone(r)
	await(t, "no packet ids", func() bool { return len(log.allIDs()) == 0 })
}

// TestTakeOver: the same client ends its connection before; another user of the
// same client id does not.
func TestTakeOver(t *testing.T) {
	d := open(t, newFakeLog(), Config{})
	first, _ := connected(t, d, login(v5, "a"))
	connected(t, d, login(v5, "b"))
	second, _ := connected(t, d, login(v5, "a"))
	if got := first.rest(); got != "e0018e" {
		t.Errorf("the first connection gets %s", got)
	}
	second.send([]byte{0xc0, 0})
	if got := second.read(2); got != "d000" {
		t.Errorf("PINGREQ gets %s", got)
	}
	await(t, "two clients", func() bool { return d.Stats().Clients == 2 })
}

// TestExpiry: sessions stay as long as was agreed, and no more of them than the bound.
func TestExpiry(t *testing.T) {
	d := open(t, newFakeLog(), Config{MaxConnections: 2})
	r, _ := connected(t, d, login(v5, "a", keep, expires(60)))
	r.send([]byte{0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0}) // DISCONNECT: 0 seconds
	r.rest()
	await(t, "no session", func() bool { return d.Stats().Sessions == 0 })
	r, _ = connected(t, d, login(v5, "a", keep, expires(1)))
	_ = r.Close()
	await(t, "a session", func() bool { return d.Stats().Sessions == 1 })
	await(t, "no session", func() bool { return d.Stats().Sessions == 0 })
	for _, id := range strings.Split("abcdefghijklm", "") {
		r, _ := connected(t, d, login(v311, id, keep))
		_ = r.Close()
		await(t, "no client", func() bool { return d.Stats().Clients == 0 })
	}
	await(t, "as many sessions as may be", func() bool { return d.Stats().Sessions == 2*awayPerClient })
	if _, present := connected(t, d, login(v311, "m", keep)); !present {
		t.Error("the last session is gone")
	}
	if _, present := connected(t, d, login(v311, "a", keep)); present {
		t.Error("the first session is still there")
	}
}

// TestAliases: a topic alias is resolved, belongs to its connection, and is not recorded.
func TestAliases(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	r, _ := connected(t, d, login(v5, "a"))
	r.send(message(2, "long/topic", 1, true, "1", 0x23, 0, 1), message(2, "", 2, true, "2", 0x23, 0, 1), message(2, "other", 3, true, "3", 0x23, 0, 1, 0x01, 1), message(2, "", 4, true, "4", 0x23, 0, 1))
	r.read(16)
	if got := log.texts(); !slices.Equal(got, []string{"long/topic=1", "long/topic=2", "other=3", "other=4"}) {
		t.Errorf("records %q", got)
	}
	for _, rec := range log.records {
		if want := map[string]string{"3": "\x01\x01"}[string(rec.Payload)]; string(rec.Properties) != want {
			t.Errorf("properties of %s: %q", rec.Payload, rec.Properties)
		}
	}
}

// TestWills: a will is a record with a mark, unless the client has said goodbye, or
// is back before its delay is over.
func TestWills(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	will := func(delay byte) func(*wire.Login) {
		return func(l *wire.Login) {
			l.Will = &wire.WillMessage{Topic: "will", Payload: []byte(l.ClientID), QoS: 1, Retain: true}
			if l.Version == v5 {
				l.Will.Props = wire.Properties{0x18, 0, 0, 0, delay, 0x03, 0, 1, 'c'}
			}
		}
	}
	end := func(r raw, packet []byte) {
		r.send(packet)
		_ = r.Close()
		await(t, "no client", func() bool { return d.Stats().Clients == 0 })
	}
	open := func(packet []byte) raw { r, _ := connected(t, d, packet); return r }
	end(open(login(v311, "goodbye", will(0))), []byte{0xe0, 0})
	end(open(login(v5, "goodbye5", will(0))), []byte{0xe0, 0})
	end(open(login(v311, "lost", will(0))), nil)
	await(t, "the first will", func() bool { return len(log.texts()) == 1 })
	end(open(login(v5, "asked", will(0))), []byte{0xe0, 1, 4})
	await(t, "the second will", func() bool { return len(log.texts()) == 2 })
	end(open(login(v5, "late", will(1), keep, expires(60))), nil)
	end(open(login(v5, "back", will(1), keep, expires(60))), nil)
	end(open(login(v5, "back", keep)), []byte{0xe0, 0})
	end(open(login(v5, "ends", will(60), expires(0))), nil)
	await(t, "the third will", func() bool { return len(log.texts()) == 3 })
	end(open(login(v5, "after", will(2), keep, expires(60))), nil) // a second after "back" would have come
	await(t, "the last will", func() bool { return slices.Contains(log.texts(), "will=after") })
	want := []string{"will=lost", "will=asked", "will=ends", "will=late", "will=after"}
	if got := log.texts(); !slices.Equal(got, want) {
		t.Errorf("wills %q, want %q", got, want)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if r := log.records[3]; string(r.Properties) != "\x03\x00\x01c\x26\x00\x0cmqttetl-will\x00\x04late" || r.Flags != 5 {
		t.Errorf("the will has properties %q and flags %d", r.Properties, r.Flags)
	}
}

// TestKeepAlive: a client that is silent for one and a half times its keepalive is ended, and told so.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	d := open(t, newFakeLog(), Config{})
	began := time.Now()
	r, _ := connected(t, d, login(v5, "a", func(l *wire.Login) { l.KeepAlive = 1 }))
	if got := r.rest(); got != "e0018d" || time.Since(began) < 1500*time.Millisecond {
		t.Errorf("after %v the client gets %s", time.Since(began), got)
	}
	d = open(t, newFakeLog(), Config{KeepAliveMax: 7 * time.Second})
	r = rawConn(t, d)
	r.send(login(v5, "a"))
	if got := r.read(25); !strings.Contains(got, "130007") {
		t.Errorf("a client without keepalive is told %s", got)
	}
}

// TestFullLog: while the log takes nothing no acknowledgement leaves, reading stops
// at the bound, the client sees that we live, and all goes on when there is room.
func TestFullLog(t *testing.T) {
	t.Parallel()
	log := newFakeLog()
	d := open(t, log, Config{})
	r, _ := connected(t, d, login(v311, "a", func(l *wire.Login) { l.KeepAlive = 2 }))
	log.hold(true)
	payload := strings.Repeat("x", 500_000)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range uint16(60) { // 30 MB
			if _, err := r.Write(message(2, "t", i+1, false, payload)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	if got := r.read(2) + r.read(2); got != "d000d000" { // 10 s, longer than the keepalive
		t.Errorf("while the log is full the client gets %s", got)
	}
	log.mu.Lock()
	held := 0
	for _, b := range log.waiting {
		held += b.Size()
	}
	log.mu.Unlock()
	if held > 10<<20 {
		t.Errorf("%d bytes wait for the log", held)
	}
	log.hold(false)
	<-sent
	await(t, "all records", func() bool { log.mu.Lock(); defer log.mu.Unlock(); return len(log.records) == 60 })
	if got := r.read(2); got != "4002" && got != "d000" {
		t.Errorf("then it gets %s", got)
	}
}
