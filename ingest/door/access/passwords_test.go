package access

import (
	"context"
	"crypto/sha512"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPasswords: what mosquitto_passwd has written, the vector of the reference
// implementation of Argon2, and nothing but the right passwords.
func TestPasswords(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "users"), "")
	for _, args := range [][]string{
		{"-b", path, "plain", "pa:ss wörd"},
		{"-b", "-H", "sha512", path, "old", "secret"},
	} {
		if out, err := exec.Command("mosquitto_passwd", args...).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_passwd %v: %v, %s (apt-get install mosquitto)", args, err, out)
		}
	}
	lines, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "# users\n\n"+string(lines)+"new:$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc\n")
	f, err := OpenPasswords(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := f.Get(time.Now().UnixNano())
	for _, c := range []struct {
		user, password string
		want           bool
	}{
		{"plain", "pa:ss wörd", true}, {"plain", "pa:ss wörd", true}, {"plain", "pa:ss word", false}, {"plain", "", false},
		{"old", "secret", true}, {"old", "secret\x00", false}, {"old", "secre", false},
		{"new", "password", true}, {"new", "password", true}, {"new", "Password", false},
		{"nobody", "secret", false}, {"", "", false},
	} {
		if got, err := p.Check(t.Context(), c.user, []byte(c.password)); got != c.want || err != nil {
			t.Errorf("%q with %q: %v %v, want %v", c.user, c.password, got, err, c.want)
		}
		if got := p.Known(c.user, []byte(c.password)); got != c.want {
			t.Errorf("%q with %q is known: %v, want %v", c.user, c.password, got, c.want)
		}
	}
}

// TestHashingIsWaitedFor: who waits for a processor waits no longer than it may, and a
// password that was right needs none.
func TestHashingIsWaitedFor(t *testing.T) {
	sum := sha512.Sum512([]byte("secretsalt"))
	u := &user{hash: sha512Hash{salt: []byte("salt"), sum: sum[:]}}
	p := &Passwords{users: map[string]*user{"a": u}, any: u}
	if right, err := p.Check(t.Context(), "a", []byte("secret")); !right || err != nil {
		t.Fatalf("the right password: %v %v", right, err)
	}
	for range cap(hashing) {
		hashing <- struct{}{}
		defer func() { <-hashing }()
	}
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for _, name := range []string{"a", "nobody"} {
		if right, err := p.Check(late, name, []byte("other")); right || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, while others are hashed: %v %v", name, right, err)
		}
	}
	if !p.Known("a", []byte("secret")) {
		t.Error("a password that was right is not known")
	}
}

// TestBrokenPasswords: a broken line is refused with its number, and never quoted.
func TestBrokenPasswords(t *testing.T) {
	const salt, sum = "c2FsdHNhbHRzYWx0", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNA=="
	for line, want := range map[string]string{
		"a:$6$" + salt + "$" + sum:             "",
		"a:$7$101$" + salt + "$" + sum:         "",
		"a":                                    "want user:hash",
		"a:":                                   "want user:hash",
		":$6$" + salt + "$" + sum:              "want user:hash",
		"a:hunter2":                            "mosquitto_passwd -U",
		"a:$1$" + salt + "$" + sum:             "none of the kinds",
		"a:$6$" + salt:                         "1 fields where 2 are wanted",
		"a:$6$*$" + sum:                        "the salt is not base64",
		"a:$6$" + salt + "$" + sum[:20]:        "the digest has 15 bytes",
		"a:$7$0$" + salt + "$" + sum:           "iterations",
		"a:$7$99999999999$" + salt + "$" + sum: "iterations",
		"a:$7$" + salt + "$" + sum:             "2 fields where 3 are wanted",
		"a:$argon2id$v=16$m=8,t=1,p=1$c29tc2FsdA$CTFhFd":  "another version",
		"a:$argon2id$v=19$m=8,t=1$c29tc2FsdA$CTFhFdXP":    "parameters of argon2id",
		"a:$argon2id$v=19$m=99999999,t=1,p=1$c29t$CTFhFd": "parameters of argon2id",
		"a:$argon2id$v=19$m=8,t=1,p=1$c29tc2FsdA":         "3 fields where 4 are wanted",
		"b:$6$" + salt + "$" + sum:                        `a second line for user "b"`,
		strings.Repeat("a", 300<<10):                      "",
	} {
		path := write(t, filepath.Join(t.TempDir(), "users"), "#\nb:$6$"+salt+"$"+sum+"\n"+line+"\n")
		_, err := OpenPasswords(path, nil)
		if len(line) > 1000 {
			if err == nil || !strings.Contains(err.Error(), "longer than") {
				t.Errorf("a long line: %v", err)
			}
			continue
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+":3: ")) {
			t.Errorf("%s: %v, want %q of line 3", line, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is quoted: %v", err)
		}
	}
}

// TestChanged: a changed file is read again, a broken one is refused and told
// once, and what was read before stays.
func TestChanged(t *testing.T) {
	const line = ":$6$c2FsdHNhbHRzYWx0$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNA==\n"
	path := write(t, filepath.Join(t.TempDir(), "users"), "a"+line)
	var told []error
	f, err := OpenPasswords(path, func(err error) { told = append(told, err) })
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixNano()
	next := func() *Passwords { now += int64(2 * lookAgain); return f.Get(now) }
	next()
	write(t, path, "a"+line+"b"+line)
	if f.Get(now); len(told) != 0 {
		t.Errorf("the file is looked at again within %v", lookAgain)
	}
	if p := next(); len(told) != 1 || told[0] != nil || p.users["b"] == nil {
		t.Errorf("after a change: told %v, users %v", told, p.users)
	}
	write(t, path, "a"+line+"b"+line+"broken\n")
	if p := next(); len(told) != 2 || told[1] == nil || len(p.users) != 2 {
		t.Errorf("after a broken line: told %v, users %v", told, p.users)
	}
	if next(); len(told) != 2 {
		t.Errorf("told again of the same file: %v", told)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if p := next(); len(told) != 2 || len(p.users) != 2 {
		t.Errorf("without the file: told %v, users %v", told, p.users)
	}
	write(t, path, "c"+line)
	if p := next(); len(told) != 3 || told[2] != nil || p.users["c"] == nil || len(p.users) != 1 {
		t.Errorf("mended: told %v, users %v", told, p.users)
	}
}

// TestHalfWritten: a file that somebody is writing is not in force before it has settled, and one
// that is gone is told once.
func TestHalfWritten(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "acl"), "topic write a\n")
	var told []error
	f, err := OpenACL(path, func(err error) { told = append(told, err) })
	if err != nil {
		t.Fatal(err)
	}
	first, now := f.value.Load(), time.Now().UnixNano()
	look := func(written bool) *ACL {
		now += int64(lookAgain)
		if written { // just now
			if err := os.Chtimes(path, time.Time{}, time.Unix(0, now)); err != nil {
				t.Fatal(err)
			}
		}
		return f.Get(now)
	}
	write(t, path, "topic write")
	if got := look(true); got != first {
		t.Error("a file is in force that is being written")
	}
	write(t, path, "topic write a\ntopic write b\n")
	if got := look(true); got != first {
		t.Error("a file is in force that has changed since it was looked at")
	}
	if got := look(false); got == first || !got.For("", "c").May(Write, []byte("b")) {
		t.Error("a file that has settled is not in force")
	}
	if len(told) != 1 || told[0] != nil {
		t.Errorf("told %v, want one change", told)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		look(false)
	}
	if len(told) != 2 || told[1] == nil || f.value.Load() == nil {
		t.Errorf("of a file that is gone: told %v, want it once", told)
	}
}
