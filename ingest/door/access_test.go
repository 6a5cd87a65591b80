package door

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	mqtt "github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/wire"
)

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func passwordFile(t *testing.T) string {
	t.Helper()
	path := file(t, "users", "")
	for _, user := range []string{"ann", "bob", "carl"} {
		if out, err := exec.Command("mosquitto_passwd", "-b", path, user, "secret-"+user).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_passwd: %v %s (apt-get install mosquitto)", err, out)
		}
	}
	return path
}

// TestLogin: only who has the password comes in, and wrong ones get slower answers.
func TestLogin(t *testing.T) {
	d := open(t, newFakeLog(), Config{PasswordFile: passwordFile(t)})
	mustConnect(t, d, mqtt.Options{ClientID: "a", Username: "ann", Password: []byte("secret-ann"), CleanStart: true})
	for _, version := range []byte{v311, v5} {
		for _, o := range []mqtt.Options{
			{Username: "ann", Password: []byte("secret-bob")}, {Username: "ann"}, {Username: "eve", Password: []byte("x")}, {},
		} {
			o.Version, o.ClientID, o.CleanStart = version, "b", true
			var r *mqtt.Refusal
			if _, err := connect(t, d, o); !errors.As(err, &r) {
				t.Errorf("version %d, %q with %q: %v, want a refusal", version, o.Username, o.Password, err)
			}
			d.penalties.mu.Lock()
			d.penalties.of = nil
			d.penalties.mu.Unlock()
		}
	}
	began := time.Now()
	for range 3 {
		_, _ = connect(t, d, mqtt.Options{ClientID: "b", Username: "eve", Password: []byte("x"), CleanStart: true})
	}
	if took := time.Since(began); took < 7*firstPenalty {
		t.Errorf("three guesses took %v", took)
	}
	began = time.Now()
	mustConnect(t, d, mqtt.Options{ClientID: "a", Username: "ann", Password: []byte("secret-ann"), CleanStart: true})
	if took := time.Since(began); took > firstPenalty {
		t.Errorf("a right password waits %v", took)
	}
}

// TestGuesses: with many connections one guesses no faster than with one: beyond eight not even
// the right password is looked at, unless it is known; and after a wrong one it waits.
func TestGuesses(t *testing.T) {
	d := open(t, newFakeLog(), Config{PasswordFile: passwordFile(t)})
	as := func(user, password string) []byte {
		return login(v311, user, func(l *wire.Login) { l.Username, l.Password = user, []byte(password) })
	}
	connected(t, d, as("ann", "secret-ann"))
	wrong := rawConn(t, d)
	wrong.send(as("bob", "x"))
	if got := wrong.rest(); got != "20020005" {
		t.Errorf("a wrong password gets %s", got)
	}
	began := time.Now()
	connected(t, d, as("bob", "secret-bob"))
	if took := time.Since(began); took < 2*firstPenalty {
		t.Errorf("after a wrong password a right one is taken in %v", took)
	}
	waiting := func() int {
		d.penalties.mu.Lock()
		defer d.penalties.mu.Unlock()
		n := 0
		for _, v := range d.penalties.of {
			v.fails = max(v.fails, 6) // so that none of them is looked at while the test goes on
			n += v.waiting
		}
		return n
	}
	waiting()
	for range mostWaiting {
		rawConn(t, d).send(as("eve", "x"))
	}
	await(t, "as many as may wait", func() bool { return waiting() == mostWaiting })
	r := rawConn(t, d)
	r.send(as("carl", "secret-carl"))
	if got := r.rest(); got != "" {
		t.Errorf("one more, with the right password, gets %s", got)
	}
	began = time.Now()
	connected(t, d, as("ann", "secret-ann"))
	if took := time.Since(began); took > time.Second {
		t.Errorf("a known password takes %v", took)
	}
}

// TestSessionsOfUsers: a session belongs to its user, not to the client id alone.
func TestSessionsOfUsers(t *testing.T) {
	d := open(t, newFakeLog(), Config{PasswordFile: passwordFile(t)})
	as := func(user string) []byte {
		return login(v311, "id", keep, func(l *wire.Login) { l.Username, l.Password = user, []byte("secret-"+user) })
	}
	ann, _ := connected(t, d, as("ann"))
	if _, present := connected(t, d, as("bob")); present {
		t.Error("bob gets the session of ann")
	}
	ann.send([]byte{0xc0, 0})
	if got := ann.read(2); got != "d000" {
		t.Errorf("ann gets %s", got)
	}
}

// TestACL: what a client may not publish is not recorded: MQTT 5 is told so, 3.1.1
// gets what it waits for. A changed file is in force for those who are connected.
func TestACL(t *testing.T) {
	path := file(t, "acl", "topic write ok/#\npattern write own/%c\n")
	log := newFakeLog()
	d := open(t, log, Config{ACLFile: path, AcknowledgeDenied: true})
	r, _ := connected(t, d, login(v5, "me"))
	r.send(message(2, "ok/1", 1, true, "1"), message(2, "no", 2, true, "2"), message(4, "no", 3, true, "3"), message(0, "no", 0, true, "4"), message(2, "own/me", 5, true, "5"), message(2, "own/you", 6, true, "6"), message(2, "$SYS/x", 7, true, "7"))
	if got, want := r.read(28), "4002000140030002875003000387400200054003000687"+"4003000787"; got != want {
		t.Errorf("MQTT 5 gets\n%s, want\n%s", got, want)
	}
	old, _ := connected(t, d, login(v311, "old"))
	old.send(message(2, "no", 1, false, "1"), message(4, "no", 2, false, "2"), []byte{0x62, 2, 0, 2}, message(2, "ok/2", 3, false, "3"))
	if got, want := old.read(16), "40020001500200027002000240020003"; got != want {
		t.Errorf("MQTT 3.1.1 gets %s, want %s", got, want)
	}
	// A will where the client may not publish.
	forbidden := rawConn(t, d)
	forbidden.send(login(v5, "w", func(l *wire.Login) { l.Will = &wire.WillMessage{Topic: "no"} }))
	if got := forbidden.rest(); got != "2003008700" {
		t.Errorf("a will to a forbidden topic gets %s", got)
	}

	if err := os.WriteFile(path, []byte("topic write no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the changed file", func() bool {
		r.send(message(2, "no", 8, true, "8"))
		if r.read(4) == "40020008" {
			return true
		}
		r.read(1) // of the code
		return false
	})
	r.send(message(2, "ok/1", 9, true, "9"))
	if got := r.read(5); got != "4003000987" {
		t.Errorf("what is no longer allowed gets %s", got)
	}
	if got, want := log.texts(), []string{"ok/1=1", "own/me=5", "ok/2=3", "no=8"}; !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
}

// TestDenied: before MQTT 5 nobody gets a PUBACK for what is not recorded: the connection ends,
// after what came before has been acknowledged.
func TestDenied(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{ACLFile: file(t, "acl", "topic write ok\n")})
	for n, qos := range []byte{2, 4} {
		r, _ := connected(t, d, login(v311, "a"))
		r.send(message(2, "ok", 1, false, "1"), message(qos, "no", 2, false, "2"), message(2, "ok", 3, false, "3"))
		if got := r.rest(); got != "40020001" {
			t.Errorf("QoS %d: the client gets %s, want one PUBACK", qos>>1, got)
		}
		await(t, "it is counted", func() bool { return refusals(t, d, forDenied) == float64(n+1) })
	}
	r, _ := connected(t, d, login(v311, "a"))
	r.send(message(0, "no", 0, false, "no promise"), message(2|1, "$SYS/broker/connection/b/state", 4, false, "1"), message(2, "ok", 5, false, "5"))
	if got := r.read(8); got != "4002000440020005" {
		t.Errorf("a bridge gets %s", got)
	}
	if got, want := log.texts(), []string{"ok=1", "ok=1", "ok=5"}; !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
}

// TestDupOf31: MQTT 3.1 has DUP on packets where 3.1.1 has a reserved flag.
func TestDupOf31(t *testing.T) {
	d := open(t, newFakeLog(), Config{})
	r, _ := connected(t, d, login(wire.Version31, "a"))
	r.send(message(4, "t", 1, false, ""), []byte{0x6a, 2, 0, 1})
	if got := r.read(8); got != "5002000170020001" {
		t.Errorf("PUBREL with DUP gets %s", got)
	}
	r, _ = connected(t, d, login(v311, "b"))
	r.send(message(4, "t", 1, false, ""), []byte{0x6a, 2, 0, 1})
	if got := r.rest(); got != "50020001" {
		t.Errorf("PUBREL with a reserved flag gets %s", got)
	}
}
