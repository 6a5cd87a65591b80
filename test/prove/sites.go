package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// makeSites fills the sites that are damaged: early; late, which early has
// become; other, of another log. Each is copied while its archive is open, so
// that it has a write-ahead log, and is behind its log. It returns the
// payloads of late.
func makeSites(dir string, rnd *rand.Rand) (payloads []string, err error) {
	if _, err := makeSite(filepath.Join(dir, "making-other"), rnd, step{500, 400, filepath.Join(dir, "other")}); err != nil {
		return nil, err
	}
	return makeSite(filepath.Join(dir, "making"), rnd,
		step{300, 250, filepath.Join(dir, "early")}, step{1500, 700, filepath.Join(dir, "late")})
}

// step takes a site to a number of records, so many of them archived, and
// copies it.
type step struct {
	records, archived int
	to                string
}

func makeSite(dir string, rnd *rand.Rand, steps ...step) (payloads []string, err error) {
	l, err := wal.Open(filepath.Join(dir, "log"), wal.Options{Consumers: []string{"archive"}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended, l.Close(), os.RemoveAll(dir))
	}()
	for _, s := range steps {
		for len(payloads) < s.records {
			more := somePayloads(rnd, len(payloads), s.records-len(payloads))
			if err := store(l, more); err != nil {
				return nil, err
			}
			payloads = append(payloads, more...)
		}
		if err := archiveUpTo(ctx, l, dir, s); err != nil {
			return nil, err
		}
	}
	return payloads, nil
}

// somePayloads are those of one batch: mostly small, some of several pages.
func somePayloads(rnd *rand.Rand, from, most int) (all []string) {
	for i := range min(most, 1+rnd.IntN(20)) {
		size := 20 + rnd.IntN(200)
		if rnd.IntN(50) == 0 {
			size = rnd.IntN(20_000)
		}
		all = append(all, fmt.Sprintf("record %d %s", from+i+1, strings.Repeat("x", size)))
	}
	return all
}

// store puts a batch into the log and waits for it.
func store(l *wal.Log, payloads []string) error {
	stored := make(chan error, 1)
	b := &mqttetl.Batch{Source: "e2e", Done: func(_ mqttetl.Seq, err error) { stored <- err }}
	for i, p := range payloads {
		b.Append(int64(i), mqttetl.Message{Topic: fmt.Appendf(nil, "e2e/%d", i), Payload: []byte(p)})
	}
	l.Append(b)
	return <-stored
}

// archiveUpTo archives the records of a step in transactions of about 50 and
// copies the site before the archive is closed.
func archiveUpTo(ctx context.Context, l *wal.Log, dir string, s step) (err error) {
	a, err := archive.Open(filepath.Join(dir, "telemetry.db"), l.ID())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	c := l.Consumer("archive")
	if _, err := c.Seek(a.Cursor()); err != nil {
		return err
	}
	for a.Cursor() < mqttetl.Seq(s.archived) {
		records, err := c.Next(ctx, min(50, s.archived-int(a.Cursor())))
		if err != nil {
			return err
		}
		if err := errors.Join(a.Append(records), a.Commit()); err != nil {
			return err
		}
	}
	if err := os.CopyFS(s.to, os.DirFS(dir)); err != nil {
		return err
	}
	return os.Remove(filepath.Join(s.to, "telemetry.db-shm"))
}
