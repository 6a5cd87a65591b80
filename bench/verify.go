package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"
	_ "modernc.org/sqlite" // reads the archive as others do

	"github.com/mqttetl/mqttetl/sink/wal"
)

// checkLog holds a log to end with record n.
func checkLog(dir string, n int) error {
	info, err := wal.Inspect(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	if int(info.Last) != n || info.DeadLetters != 0 {
		return fmt.Errorf("the log ends at record %d and has %d dead letters; %d messages were sent", info.Last, info.DeadLetters, n)
	}
	return nil
}

// checkArchive holds an archive to have n messages, each once and at its place:
// the number in a message's payload must be its seq - 1.
func checkArchive(dir string, n int) error {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "telemetry.db")+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	var rows, right int
	err = db.QueryRow(`SELECT count(*), coalesce(sum(CAST(substr(payload, 1, ?) AS INTEGER) = seq-1), 0) FROM messages`, counterDigits).Scan(&rows, &right)
	if err != nil {
		return fmt.Errorf("count the archive: %w", err)
	}
	if rows != n || right != n {
		return fmt.Errorf("the archive has %d rows, %d of them with the right message; %d messages were sent", rows, right, n)
	}
	return nil
}

// archiveSize is the size of an archive with nothing left in its WAL, in bytes.
func archiveSize(dir string) (int64, error) {
	path := filepath.Join(dir, "telemetry.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return 0, err
	}
	_, err = db.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("checkpoint the archive: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// checkStream holds a stream to have n messages, the first and the last of them
// being the first and the last that were sent. A stream numbers its messages
// without holes, so with each once and the ends right none is missing; that each
// is there once is what Nats-Msg-Id and the expected sequence are for.
func checkStream(ctx context.Context, js jetstream.JetStream, name string, n int) error {
	s, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	state := s.CachedInfo().State
	if int(state.Msgs) != n || int(state.LastSeq) != n || state.NumDeleted != 0 {
		return fmt.Errorf("stream %s has %d messages up to number %d; %d messages were sent", name, state.Msgs, state.LastSeq, n)
	}
	for _, at := range []int{1, n/2 + 1, n} {
		m, err := s.GetMsg(ctx, uint64(at))
		if err != nil {
			return fmt.Errorf("message %d of stream %s: %w", at, name, err)
		}
		if c, err := counter(m.Data); err != nil || int(c) != at-1 {
			return fmt.Errorf("message %d of stream %s is number %d: %w", at, name, c, err)
		}
	}
	return nil
}

// checkSource holds the source to have received and acknowledged all messages, each once.
func (t *trial) checkSource() error {
	s, err := t.program.Status(t.ctx)
	if err != nil {
		return err
	}
	n, v := uint64(t.n), s.Sources[0]
	if v.Received != n || v.Acknowledged != n || v.Redelivered != 0 || v.Reconnects != 0 {
		return fmt.Errorf("the source says %+v; %d messages were sent, once", v, n)
	}
	return nil
}
