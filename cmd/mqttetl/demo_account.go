//go:build !small

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/sink/archive"
)

// holdings are the messages in the two stores, counted there and not taken
// from what the pipeline says of itself.
type holdings struct {
	archived  uint64
	forwarded uint64
}

// countHoldings counts the rows of the archive and the messages of the stream.
// A store that does not exist yet holds none.
func countHoldings(ctx context.Context, archivePath, natsURL, stream string) (h holdings, err error) {
	if h.archived, err = countRows(ctx, archivePath); err != nil {
		return h, fmt.Errorf("count rows of %s: %w", archivePath, err)
	}
	if h.forwarded, err = countStream(ctx, natsURL, stream); err != nil {
		return h, fmt.Errorf("count messages of stream %s: %w", stream, err)
	}
	return h, nil
}

func countRows(ctx context.Context, path string) (n uint64, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return archive.Count(ctx, path)
}

func countStream(ctx context.Context, url, name string) (uint64, error) {
	conn, err := nats.Connect(url)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return 0, err
	}
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.Msgs, nil
}

// account is where the messages of the devices of one run have come to.
type account struct {
	published    uint64 // acknowledged to the devices by the broker
	acknowledged uint64 // acknowledged to the broker by us
	holdings
	others uint64 // messages of other publishers, in none of these figures
}

// err is nil if every message has come everywhere, once.
func (a account) err() error {
	if a.published == a.acknowledged && a.published == a.archived && a.published == a.forwarded {
		return nil
	}
	return errors.New("the account does not balance")
}

func (a account) String() string {
	sign := func(x, y uint64) string { return choose(x == y, "=", "≠") }
	return fmt.Sprintf("published %d %s acknowledged %d %s archived %d %s forwarded %d",
		a.published, sign(a.published, a.acknowledged), a.acknowledged, sign(a.acknowledged, a.archived), a.archived,
		sign(a.archived, a.forwarded), a.forwarded)
}
