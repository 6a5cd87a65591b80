// Command reopen opens stores as a crash may have left them: it checks them,
// lets the archive catch up with the log, adds one more record, and tells what
// is in them. It is a process of its own because damaged files can end it.
//
// Each line of its input names a directory that holds log/ and telemetry.db;
// each line of its output is a prove.Reopened.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
	"github.com/mqttetl/mqttetl/sink/wal"
	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/prove"
)

func main() {
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() {
		if err := out.Encode(reopen(in.Text())); err != nil {
			os.Exit(1)
		}
	}
}

// stores are the files of one state.
type stores struct {
	log, archive string
	found        prove.Reopened
}

func reopen(dir string) prove.Reopened {
	s := stores{log: filepath.Join(dir, "log"), archive: filepath.Join(dir, "telemetry.db")}
	s.verify()
	records, err := s.read()
	if err != nil {
		s.problem("read log: %v", err)
		return s.found
	}
	if err := s.restart(); err != nil {
		s.problem("restart: %v", err)
		return s.found
	}
	s.compare(records)
	return s.found
}

func (s *stores) problem(format string, args ...any) {
	s.found.Problems = append(s.found.Problems, fmt.Sprintf(format, args...))
}

// verify is what mqttetl verify does, and every row of the archive.
func (s *stores) verify() {
	l, err := wal.Verify(s.log, nil)
	if errors.Is(err, fs.ErrNotExist) {
		l = wal.Report{}
	} else if err != nil {
		s.problem("verify log: %v", err)
	}
	for _, p := range l.Problems {
		s.problem("log: record %d: %s", p.Seq, p.Text)
	}
	s.found.First, s.found.Last = uint64(l.First), uint64(l.Last)
	a, err := archive.Verify(context.Background(), s.archive, true)
	if errors.Is(err, fs.ErrNotExist) {
		return
	} else if err != nil {
		s.problem("verify archive: %v", err)
		return
	}
	for _, p := range a.Problems {
		s.problem("archive: %v", p)
	}
	for _, g := range a.Gaps {
		s.problem("archive: gap %d to %d", g.First, g.Last)
	}
	s.found.Cursor = uint64(a.Cursor)
	if a.LogID != "" && a.LogID != l.ID {
		s.problem("archive of log %s, the log is %s", a.LogID, l.ID)
	}
	if a.Cursor > l.Last {
		s.problem("archive at record %d, the log ends at %d", a.Cursor, l.Last)
	}
}

// read returns the payloads that are in the log.
func (s *stores) read() (map[int64]string, error) {
	records := map[int64]string{}
	r, err := wal.OpenReader(s.log)
	if errors.Is(err, fs.ErrNotExist) {
		return records, nil
	} else if err != nil {
		return nil, err
	}
	defer r.Close()
	first, last, err := r.Bounds()
	for at := first; err == nil && at != 0 && at <= last; {
		var rs []mqttetl.Record
		if rs, err = r.Behind(at - 1); err == nil {
			for i := range rs {
				records[int64(rs[i].Seq)] = string(rs[i].Payload)
			}
			at = rs[len(rs)-1].Seq + 1
		}
	}
	return records, err
}

// ends is what a batcher needs of the log.
type ends struct {
	*wal.Consumer
	*wal.Log
}

// restart opens the stores as mqttetl run does, appends one more record and
// waits until the archive has caught up.
func (s *stores) restart() error {
	l, err := wal.Open(s.log, wal.Options{Consumers: []string{"archive", "nats"}})
	if err != nil {
		return err
	}
	b := batch.New(batch.Config{Name: s.archive, Period: time.Millisecond,
		Open: func(o store.Options) (batch.Archive, error) { return archive.OpenWith(s.archive, l.ID(), o) }}, ends{l.Consumer("archive"), l})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var running sync.WaitGroup
	ended := make(chan error, 2)
	running.Go(func() { ended <- l.Run(ctx) })
	running.Go(func() { ended <- b.Run(ctx) })
	stored := make(chan error, 1)
	more := &mqttetl.Batch{Source: "after", Done: func(_ mqttetl.Seq, err error) { stored <- err }}
	more.Append(time.Now().UnixNano(), mqttetl.Message{Topic: []byte("after"), Payload: []byte(prove.AfterCrash)})
	l.Append(more)
	err = <-stored
	for err == nil && b.Stats().Cursor < l.Stats().Last {
		select {
		case err = <-ended:
			err = fmt.Errorf("archive at record %d of %d: ended: %w", b.Stats().Cursor, l.Stats().Last, err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	running.Wait()
	return errors.Join(err, l.Close())
}

// compare holds the rows against what was in the log.
func (s *stores) compare(records map[int64]string) {
	rows, err := e2e.ReadArchive(s.archive)
	if err != nil {
		s.problem("%v", err)
		return
	}
	if err := e2e.CheckNumbers(rows, 1); err != nil {
		s.problem("after the restart: %v", err)
	}
	for _, r := range rows {
		s.found.Payloads = append(s.found.Payloads, r.Payload)
		if want, ok := records[r.Seq]; ok && want != r.Payload {
			s.problem("row %d is %.40q, the record was %.40q", r.Seq, r.Payload, want)
		}
		delete(records, r.Seq)
	}
	if len(records) > 0 {
		s.problem("%d records of the log are no rows after the restart", len(records))
	}
	if n := len(rows); n == 0 || rows[n-1].Payload != prove.AfterCrash {
		s.problem("the record that was added after the restart is not the last of %d rows", n)
	}
}
