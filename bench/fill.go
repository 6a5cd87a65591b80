package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// filling is a log to be made without a broker.
type filling struct {
	Dir      string
	Messages int
	Payload  int
	Consumer string // that the log is to keep everything for
}

const (
	fillBatches = 8       // on their way into the log at the same time
	fillBytes   = 1 << 19 // of one batch
)

// fill is the role that makes a log with a backlog. Its pages are not left in
// the page cache: after a restart of the machine they would not be there either.
func fill(l *link, p filling) error {
	log, err := wal.Open(p.Dir, wal.Options{MaxSize: 64 << 30, Consumers: []string{p.Consumer}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	err = appendAll(log, p)
	cancel()
	if err := errors.Join(err, <-ended, log.Close(), uncache(filepath.Join(p.Dir, "data.mdb"))); err != nil {
		return err
	}
	return l.say(received{time.Now().UnixNano()})
}

// appended is a batch that can be filled, with what became of it before.
type appended struct {
	batch *mqttetl.Batch
	err   error
}

// appendAll appends the messages, with some batches always under way.
func appendAll(log *wal.Log, p filling) error {
	free := make(chan appended, fillBatches)
	for range fillBatches {
		b := &mqttetl.Batch{Source: "bench"}
		b.Done = func(_ mqttetl.Seq, err error) { free <- appended{b, err} }
		free <- appended{batch: b}
	}
	next := newMessages(p.Payload)
	for left := p.Messages; left > 0; {
		a := <-free
		if a.err != nil {
			return fmt.Errorf("append: %w", a.err)
		}
		a.batch.Reset()
		now := time.Now().UnixNano()
		for ; left > 0 && a.batch.Size() < fillBytes; left-- {
			a.batch.Append(now, next())
		}
		log.Append(a.batch)
	}
	for range fillBatches {
		if a := <-free; a.err != nil {
			return fmt.Errorf("append: %w", a.err)
		}
	}
	return nil
}

// newMessages returns a function that returns the messages of the benchmark in
// turn, each valid until the next.
func newMessages(size int) func() mqttetl.Message {
	names := make([][]byte, topics)
	for i := range names {
		names[i] = []byte(topic(i))
	}
	var body []byte
	i := -1
	return func() mqttetl.Message {
		if i++; i == 0 {
			body = payload(0, size)
		} else {
			increment(body[:counterDigits])
		}
		return mqttetl.Message{Topic: names[i%topics], Payload: body, Flags: 1}
	}
}

// uncache drops the file's pages from the page cache.
func uncache(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}
