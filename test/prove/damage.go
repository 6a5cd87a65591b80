package prove

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

func damageCampaign() *Campaign {
	return &Campaign{
		Name: "damage",
		Injects: "bits flipped, pages zeroed, overwritten, exchanged, files cut off, in the log and in the archive's two files; an older archive, " +
			"one that is ahead of a restored log, one of another log; then mqttetl verify and mqttetl run",
		Short: 40, Long: 2000,
		Run: damages,
		Controls: []Control{
			{Name: "segments without a checksum", Replace: noChecksum, Trials: 600},
			{Name: "archive of any log accepted", Replace: anyLog, Trials: 600},
		},
	}
}

var (
	// noChecksum serves segments as they are.
	noChecksum = map[string][2]string{"sink/wal/segment.go": {"; want != got {", "; want != got && false {"}}
	// anyLog appends to whatever archive there is, where it ends.
	anyLog = map[string][2]string{"sink/archive/open.go": {"if m.logID != logID {", "if false {"}}
)

// damages spoils copies of a site, one a trial.
func damages(ctx context.Context, e Env) (t Tally, err error) {
	s, err := newSpoiled(e)
	if err != nil {
		return t, err
	}
	defer s.close()
	for i := 0; e.More(&t); i++ {
		trialCtx, cancel := context.WithTimeout(ctx, trialTime)
		err := s.trial(trialCtx, e.Trial(i), fmt.Sprintf("trial %d (seed %d)", i, e.Seed+uint64(i)), &t)
		cancel()
		if err != nil {
			return t, fmt.Errorf("trial %d (seed %d): %w", i, e.Seed+uint64(i), err)
		}
		t.Trials++
	}
	e.Log("%d found by verify, %d ended the service, %d harmless; wrong bytes within rows, which SQLite has no checksums for, in %d archives",
		s.found, s.ended, s.harmless, s.silent)
	return t, nil
}

// spoiled is what the trials share: intact files, what is in them, a broker.
type spoiled struct {
	bin, dir string
	broker   *servers.Mosquitto
	truth    []string // payload of record i+1

	found, ended, harmless, silent int
}

func (s *spoiled) close() {
	if s.broker != nil {
		s.broker.Kill()
	}
	os.RemoveAll(s.dir)
}

// newSpoiled makes the intact sites: early, and late, which is what early has become.
func newSpoiled(e Env) (s *spoiled, err error) {
	s = &spoiled{bin: e.Bin}
	if s.dir, err = os.MkdirTemp("/dev/shm", "mqttetl-damage-"); err != nil {
		s.dir, err = os.MkdirTemp(e.Dir, "damage-")
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.broker, err = servers.StartMosquitto(filepath.Join(e.Dir), queueConf); err != nil {
		return nil, err
	}
	if s.truth, err = makeSites(s.dir, e.Rand); err != nil {
		return nil, fmt.Errorf("make a site: %w", err)
	}
	return s, nil
}

// trial spoils a copy and sees what verify and run make of it.
func (s *spoiled) trial(ctx context.Context, rnd *rand.Rand, trial string, t *Tally) error {
	dir := filepath.Join(s.dir, "trial")
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(s.dir, "late"))); err != nil {
		return err
	}
	k := kinds[rnd.IntN(len(kinds))]
	what, err := k.spoil(s.dir, dir, rnd)
	if err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	c := &damageCase{spoiled: s, kind: k, t: t, name: fmt.Sprintf("%s, %s %s", trial, k.name, what)}
	if c.service, err = service.New(s.bin, dir, service.Settings{Broker: s.broker.URL, QoS: 1, Version: "5"}); err != nil {
		return err
	}
	defer c.service.Kill()
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

// damageCase is one trial.
type damageCase struct {
	*spoiled
	kind    kind
	name    string
	service *service.Service
	t       *Tally
}

func (c *damageCase) violate(format string, args ...any) {
	c.t.Violate(c.name+": "+format, args...)
}

const damaged = 65 // exit code

func (c *damageCase) run(ctx context.Context) error {
	verified := c.verify(ctx)
	ended, code, err := c.serve(ctx)
	if err != nil {
		return err
	}
	switch {
	case ended && code != damaged:
		c.violate("mqttetl run ended with %d: %s", code, tail(c.service.Output(), 700))
	case ended:
		c.ended++
		if verified == 0 {
			c.violate("verify finds nothing, mqttetl run ends: %s", tail(c.service.Output(), 300))
		}
	case c.kind.fatal:
		c.violate("mqttetl run goes on")
	}
	if ended && c.archiveSaid() {
		c.violate("a damaged archive ends the service")
	}
	if verified == damaged {
		c.found++
	} else if !ended {
		c.harmless++
	}
	return c.rows(verified == damaged || c.archiveSaid())
}

// archiveSaid says whether the service has said that its archive is damaged,
// which is no reason for it to end.
func (c *damageCase) archiveSaid() bool {
	for line := range strings.SplitSeq(c.service.Output(), "\n") {
		if strings.Contains(line, "archive unavailable") && strings.Contains(line, "damaged") {
			return true
		}
	}
	return false
}

// subscribed says whether the broker has granted the service its subscription:
// what is published before is not for it.
func (c *damageCase) subscribed() bool {
	return strings.Contains(c.service.Output(), "msg=subscribed")
}

// verify returns the exit code of mqttetl verify.
func (c *damageCase) verify(ctx context.Context) int {
	out, err := exec.CommandContext(ctx, c.bin, "verify", "-c", c.service.Config()).CombinedOutput()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		code = -1
	}
	if code != 0 && code != damaged {
		c.violate("verify ends with %d: %s", code, tail(string(out), 700))
	}
	if code == 0 && c.kind.fatal {
		c.violate("verify finds nothing")
	}
	return code
}

// serve runs the service until it ends or has archived everything and a few
// messages more.
func (c *damageCase) serve(ctx context.Context) (ended bool, code int, err error) {
	if err := c.service.Start(); err != nil {
		return false, 0, err
	}
	w := &world{Service: c.service, pub: &e2e.Publisher{Broker: c.broker.URL, Run: "more", QoS: 1, Workers: 1}}
	drained := func(s service.Status) bool {
		return s.Ready && s.Archive.Lag == 0 && s.Archive.Cursor == s.Log.Last || c.kind.ofArchive && c.archiveSaid() && c.subscribed()
	}
	limit, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	_, err = w.Await(limit, "drained", drained)
	if err == nil {
		if err = w.pub.Publish(ctx, 3); err != nil {
			return false, 0, err
		}
		_, err = w.Await(limit, "drained again", func(s service.Status) bool {
			return drained(s) && len(s.Sources) > 0 && s.Sources[0].Acknowledged >= 3
		})
	}
	if w.Ended() {
		code, err := c.service.Exited(ctx)
		return true, code, err
	}
	if err != nil && ctx.Err() == nil {
		c.violate("mqttetl run neither ends nor goes on: %v; %s", err, tail(c.service.Output(), 700))
	}
	if _, err := c.service.Stop(); err != nil && ctx.Err() == nil {
		c.violate("SIGTERM: %v; %s", err, tail(c.service.Output(), 700))
	}
	return false, 0, ctx.Err()
}

// rows checks that nothing wrong was archived.
func (c *damageCase) rows(noticed bool) error {
	if c.kind.fatal {
		return nil // what is there is of another log
	}
	rows, err := e2e.ReadArchive(c.service.Archive())
	if err != nil {
		if !noticed && !c.kind.ofArchive { // SQLite says so itself, to whoever reads that page
			c.violate("the archive cannot be read: %v", err)
		}
		return nil
	}
	wrong := 0
	for _, r := range rows {
		if r.Seq < 1 || r.Seq <= int64(len(c.truth)) && r.Payload != c.truth[r.Seq-1] {
			wrong++
		} else if r.Seq > int64(len(c.truth)) && !strings.HasPrefix(r.Payload, "more-") {
			wrong++
		}
	}
	c.t.Messages += len(rows)
	switch {
	case wrong > 0 && c.kind.ofArchive:
		c.silent++
	case wrong > 0:
		c.violate("%d of %d rows are not what was recorded", wrong, len(rows))
	}
	return nil
}

// kind is a kind of damage.
type kind struct {
	name      string
	fatal     bool // must be noticed, and end the service
	ofArchive bool // what SQLite itself holds is spoiled
	// spoil spoils dir, with the intact sites in sites, and says where.
	spoil func(sites, dir string, rnd *rand.Rand) (what string, err error)
}

var kinds = []kind{
	inFile("log/data.mdb", "flipped bits", flipBits),
	inFile("log/data.mdb", "flipped bits of tree pages", flipTreeBits),
	inFile("log/data.mdb", "flipped bits of tree pages", flipTreeBits),
	inFile("log/data.mdb", "flipped bits of meta pages", flipMetaBits),
	inFile("log/data.mdb", "zeroed pages", zeroPages),
	inFile("log/data.mdb", "overwritten pages", overwritePages),
	inFile("log/data.mdb", "exchanged pages", exchangePages),
	inFile("log/data.mdb", "cut off", cutOff),
	inFile("telemetry.db", "flipped bits", flipBits),
	inFile("telemetry.db", "zeroed pages", zeroPages),
	inFile("telemetry.db", "exchanged pages", exchangePages),
	inFile("telemetry.db", "cut off", cutOff),
	inFile("telemetry.db-wal", "flipped bits", flipBits),
	inFile("telemetry.db-wal", "zeroed pages", zeroPages),
	inFile("telemetry.db-wal", "cut off", cutOff),
	{name: "an older archive", spoil: replace("early", "telemetry.db")},
	{name: "an archive ahead of a restored log", fatal: true, spoil: replace("early", "log")},
	{name: "the archive of another log", fatal: true, spoil: replace("other", "telemetry.db")},
	{name: "another log", fatal: true, spoil: replace("other", "log")},
}

// replace takes a part from another site.
func replace(site, part string) func(string, string, *rand.Rand) (string, error) {
	return func(sites, dir string, _ *rand.Rand) (string, error) {
		old, err := filepath.Glob(filepath.Join(dir, part+"*"))
		if err != nil {
			return "", err
		}
		for _, path := range old {
			if err := os.RemoveAll(path); err != nil {
				return "", err
			}
		}
		parts, err := filepath.Glob(filepath.Join(sites, site, part+"*"))
		for _, from := range parts {
			to := filepath.Join(dir, filepath.Base(from))
			if info, serr := os.Stat(from); serr == nil && info.IsDir() {
				err = errors.Join(err, os.CopyFS(to, os.DirFS(from)))
			} else {
				p, rerr := os.ReadFile(from)
				err = errors.Join(err, rerr, os.WriteFile(to, p, 0o640))
			}
		}
		return "", err
	}
}

// inFile spoils the bytes of a file.
func inFile(name, how string, spoil func(p []byte, rnd *rand.Rand) (q []byte, what string)) kind {
	return kind{
		name: name + ": " + how, ofArchive: !strings.HasPrefix(name, "log/"),
		spoil: func(_, dir string, rnd *rand.Rand) (string, error) {
			path := filepath.Join(dir, name)
			p, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			p, what := spoil(p, rnd)
			return what, os.WriteFile(path, p, 0o640)
		},
	}
}

// used is the part of a file behind which there are only zeros.
func used(p []byte) []byte {
	n := len(p)
	for n > 1 && p[n-1] == 0 {
		n--
	}
	return p[:n]
}

func flipBits(p []byte, rnd *rand.Rand) ([]byte, string) {
	return flip(p, rnd, func() int { return rnd.IntN(len(used(p))) })
}

func flip(p []byte, rnd *rand.Rand, where func() int) ([]byte, string) {
	var at []int
	for range 1 + rnd.IntN(4) {
		i := where()
		p[i] ^= 1 << rnd.IntN(8)
		at = append(at, i)
	}
	return p, fmt.Sprint("at ", at)
}

// flipTreeBits flips bits in the used parts of branch and leaf pages of LMDB:
// the header, the list of nodes and the nodes' own headers.
func flipTreeBits(p []byte, rnd *rand.Rand) ([]byte, string) {
	const branch, leaf, flagsAt, lowerAt = 1, 2, 10, 12
	return flip(p, rnd, func() int {
		for {
			page := 2 + rnd.IntN(len(used(p))/pageBytes-1)
			b := p[page*pageBytes:]
			if f := binary.NativeEndian.Uint16(b[flagsAt:]); f != branch && f != leaf {
				continue
			}
			nodes := int(binary.NativeEndian.Uint16(b[lowerAt:])-16) / 2
			if nodes <= 0 || rnd.IntN(2) == 0 {
				return page*pageBytes + rnd.IntN(16+2*max(1, min(nodes, 2000)))
			}
			node := int(binary.NativeEndian.Uint16(b[16+2*rnd.IntN(min(nodes, 2000)):]))
			return page*pageBytes + min(node+rnd.IntN(16), pageBytes-1)
		}
	})
}

func flipMetaBits(p []byte, rnd *rand.Rand) ([]byte, string) {
	return flip(p, rnd, func() int { return rnd.IntN(2)*pageBytes + rnd.IntN(152) })
}

func zeroPages(p []byte, rnd *rand.Rand) ([]byte, string) {
	return pages(p, rnd, func(page []byte) { clear(page) })
}

func overwritePages(p []byte, rnd *rand.Rand) ([]byte, string) {
	return pages(p, rnd, func(page []byte) {
		for i := range page {
			page[i] = byte(rnd.Uint32())
		}
	})
}

func exchangePages(p []byte, rnd *rand.Rand) ([]byte, string) {
	return pages(p, rnd, func(page []byte) {
		i := rnd.IntN(len(p) / pageBytes)
		other := p[i*pageBytes : (i+1)*pageBytes]
		was := append([]byte(nil), page...)
		copy(page, other)
		copy(other, was)
	})
}

// pages spoils one to three pages.
func pages(p []byte, rnd *rand.Rand, spoil func(page []byte)) ([]byte, string) {
	var at []int
	for range 1 + rnd.IntN(3) {
		i := rnd.IntN(max(1, len(used(p))/pageBytes))
		spoil(p[i*pageBytes : min(len(p), (i+1)*pageBytes)])
		at = append(at, i)
	}
	return p, fmt.Sprint("at page ", at)
}

func cutOff(p []byte, rnd *rand.Rand) ([]byte, string) {
	n := rnd.IntN(len(used(p)))
	if rnd.IntN(2) == 0 {
		n -= n % pageBytes
	}
	return p[:n], fmt.Sprintf("behind %d bytes of %d", n, len(p))
}
