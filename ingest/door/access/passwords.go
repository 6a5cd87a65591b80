package access

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
)

// Passwords are the users of a password_file.
type Passwords struct {
	users map[string]*user
	any   *user // by whom a name that does not exist takes as long as one that does
}

type user struct {
	hash  hash
	known atomic.Pointer[[sha256.Size]byte] // keyed digest of the password that was right last
}

// A hash is a password as a line of the file has it.
type hash interface{ is(password []byte) bool }

// OpenPasswords reads a password_file. changed is told of each change of the
// file: nil, or why it is refused.
func OpenPasswords(path string, changed func(error)) (*File[Passwords], error) {
	return openLines(path, parsePasswords, changed)
}

// Known says, at little cost, that this password of a user is right, because it was the
// last time: a device that reconnects, or a thousand that share a user, do not hash it anew.
func (p *Passwords) Known(name string, password []byte) bool {
	u := p.users[name]
	if u == nil {
		return false
	}
	digest, known := digestOf(password), u.known.Load()
	return known != nil && subtle.ConstantTimeCompare(known[:], digest[:]) == 1
}

// Check says whether the file has the user with this password. It takes a processor for a
// while, and waits for one; the error is that of ctx, if that has ended before.
func (p *Passwords) Check(ctx context.Context, name string, password []byte) (bool, error) {
	u := p.users[name]
	if u == nil && p.any == nil {
		return false, nil
	}
	select {
	case hashing <- struct{}{}:
		defer func() { <-hashing }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if u == nil {
		p.any.hash.is(password)
		return false, nil
	}
	if !u.hash.is(password) {
		return false, nil
	}
	digest := digestOf(password)
	u.known.Store(&digest)
	return true, nil
}

// digestKey makes the digests of passwords that were right useless to others.
var digestKey = func() (k [32]byte) { _, _ = rand.Read(k[:]); return k }() // never fails

func digestOf(password []byte) [sha256.Size]byte {
	m := hmac.New(sha256.New, digestKey[:])
	m.Write(password)
	return [sha256.Size]byte(m.Sum(nil))
}

// hashing bounds how many passwords are hashed at the same time: each may take
// a processor and, for argon2id, as much memory as its line says.
var hashing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

func parsePasswords(path string, lines *bufio.Scanner) (*Passwords, error) {
	p := &Passwords{users: map[string]*user{}}
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		name, u, err := parseUser(line)
		if err == nil && p.users[name] != nil {
			err = fmt.Errorf("a second line for user %q", name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		p.users[name] = u
		if p.any == nil {
			p.any = u
		}
	}
	return p, nil
}

func parseUser(line string) (name string, u *user, err error) {
	name, written, ok := strings.Cut(line, ":")
	name, written = strings.TrimSpace(name), strings.TrimSpace(written)
	switch {
	case !ok || name == "" || written == "":
		return "", nil, errors.New("want user:hash, as mosquitto_passwd writes it")
	case len(name) > 65535:
		return "", nil, errors.New("the user name is longer than the 65535 bytes that MQTT allows")
	}
	h, err := parseHash(written)
	if err != nil {
		return "", nil, fmt.Errorf("user %q: %w", name, err)
	}
	return name, &user{hash: h}, nil
}

// parseHash never quotes what it reads: it may be a password.
func parseHash(s string) (hash, error) {
	_, rest, ok := strings.Cut(s, "$")
	kind, rest, _ := strings.Cut(rest, "$")
	switch {
	case !ok || !strings.HasPrefix(s, "$"):
		return nil, errors.New("the password is not hashed; mosquitto_passwd -U FILE does that")
	case kind == "6":
		return parseSHA512(rest)
	case kind == "7":
		return parsePBKDF2(rest)
	case kind == "argon2id":
		return parseArgon2(rest)
	}
	return nil, errors.New("the hash is of none of the kinds $6$, $7$ and $argon2id$")
}

// cut splits exactly n fields.
func cut(s string, n int) ([]string, error) {
	fields := strings.Split(s, "$")
	if len(fields) != n {
		return nil, fmt.Errorf("the hash has %d fields where %d are wanted: is the line whole?", len(fields), n)
	}
	return fields, nil
}

// decode decodes base64 of the given lengths; none: any but 0.
func decode(enc *base64.Encoding, what, s string, lengths ...int) ([]byte, error) {
	b, err := enc.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("the %s is not base64", what)
	}
	for _, n := range lengths {
		if len(b) == n {
			return b, nil
		}
	}
	if len(lengths) > 0 || len(b) == 0 {
		return nil, fmt.Errorf("the %s has %d bytes: is the line whole?", what, len(b))
	}
	return b, nil
}

// sha512Hash is $6$: one round.
type sha512Hash struct{ salt, sum []byte }

func parseSHA512(s string) (h sha512Hash, err error) {
	f, err := cut(s, 2)
	if err != nil {
		return h, err
	}
	if h.salt, err = decode(base64.StdEncoding, "salt", f[0]); err != nil {
		return h, err
	}
	h.sum, err = decode(base64.StdEncoding, "digest", f[1], sha512.Size)
	return h, err
}

func (h sha512Hash) is(password []byte) bool {
	sum := sha512.Sum512(append(bytes.Clone(password), h.salt...))
	return subtle.ConstantTimeCompare(sum[:], h.sum) == 1
}

// Bounds on what a line may ask for: whoever guesses passwords makes us pay it.
const (
	mostRounds = 10_000_000
	mostMemory = 1 << 20 // KiB of argon2id
	mostPasses = 100
)

// pbkdf2Hash is $7$.
type pbkdf2Hash struct {
	rounds    int
	salt, sum []byte
}

func parsePBKDF2(s string) (h pbkdf2Hash, err error) {
	f, err := cut(s, 3)
	if err != nil {
		return h, err
	}
	if h.rounds, err = strconv.Atoi(f[0]); err != nil || h.rounds < 1 || h.rounds > mostRounds {
		return h, fmt.Errorf("the number of iterations is not from 1 to %d", mostRounds)
	}
	if h.salt, err = decode(base64.StdEncoding, "salt", f[1]); err != nil {
		return h, err
	}
	h.sum, err = decode(base64.StdEncoding, "digest", f[2], sha512.Size)
	return h, err
}

func (h pbkdf2Hash) is(password []byte) bool {
	sum, err := pbkdf2.Key(sha512.New, string(password), h.salt, h.rounds, len(h.sum))
	return err == nil && subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// argon2Hash is $argon2id$, in the form of the reference implementation.
type argon2Hash struct {
	memory, passes uint32
	lanes          uint8
	salt, sum      []byte
}

func parseArgon2(s string) (h argon2Hash, err error) {
	f, err := cut(s, 4)
	if err != nil {
		return h, err
	}
	if f[0] != "v=19" {
		return h, errors.New("argon2id of another version than 19")
	}
	n, err := fmt.Sscanf(f[1]+"\n", "m=%d,t=%d,p=%d\n", &h.memory, &h.passes, &h.lanes)
	if err != nil || n != 3 || h.passes < 1 || h.passes > mostPasses || h.lanes < 1 || h.memory < 8*uint32(h.lanes) || h.memory > mostMemory {
		return h, fmt.Errorf("the parameters of argon2id are not m=8..%d,t=1..%d,p=1..255", mostMemory, mostPasses)
	}
	if h.salt, err = decode(base64.RawStdEncoding, "salt", f[2]); err != nil {
		return h, err
	}
	if h.sum, err = decode(base64.RawStdEncoding, "digest", f[3]); err == nil && len(h.sum) < 4 {
		err = errors.New("the digest has fewer than 4 bytes: is the line whole?")
	}
	return h, err
}

func (h argon2Hash) is(password []byte) bool {
	sum := argon2.IDKey(password, h.salt, h.passes, h.memory, h.lanes, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}
