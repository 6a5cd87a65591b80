package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/test/servers"
)

// A bench is what all measurements of a run share.
type bench struct {
	ctx        context.Context
	progress   io.Writer
	dir        string // on a real disk; each measurement has a directory of its own below it
	binary     string // mqttetl, built from this checkout
	profiles   string // where CPU profiles go; empty: none are made
	scale      float64
	cell       time.Duration // of each rate of the group rates, and in how many
	rateRounds int           // rounds; 0: in all

	server *servers.NATSProcess
	nc     *nats.Conn
	js     jetstream.JetStream
	count  int // measurements so far, for names
}

// open makes the working directory below parent, builds mqttetl and starts the
// JetStream server, which all measurements use one after the other.
func open(ctx context.Context, progress io.Writer, parent, profiles string, scale float64) (b *bench, err error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	if parent, err = filepath.Abs(parent); err != nil {
		return nil, err
	}
	if profiles != "" {
		if err := os.MkdirAll(profiles, 0o755); err != nil {
			return nil, err
		}
		if profiles, err = filepath.Abs(profiles); err != nil {
			return nil, err
		}
	}
	b = &bench{ctx: ctx, progress: progress, profiles: profiles, scale: scale, cell: max(time.Duration(float64(rateTime)*scale), time.Second), rateRounds: 1}
	opened := b
	if b.dir, err = os.MkdirTemp(parent, "bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	if b.binary, err = build(ctx, b.dir, profiles != ""); err != nil {
		return nil, err
	}
	if b.server, err = servers.StartNATSProcess(b.dir, ""); err != nil {
		return nil, err
	}
	if b.nc, err = nats.Connect(b.server.URL()); err != nil {
		return nil, err
	}
	b.js, err = jetstream.New(b.nc)
	return b, err
}

// Close ends the server and removes the working directory.
func (b *bench) Close() error {
	var err error
	if b.nc != nil {
		b.nc.Close()
	}
	if b.server != nil {
		err = b.server.Kill()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// logf prints a line of progress.
func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(b.progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// newDir makes the directory of one measurement. done removes it.
func (b *bench) newDir() (dir string, done func(), err error) {
	b.count++
	dir = filepath.Join(b.dir, fmt.Sprint(b.count))
	return dir, func() { os.RemoveAll(dir) }, os.Mkdir(dir, 0o755)
}

// syncDisk waits until the disk has what earlier measurements have left to write.
func (b *bench) syncDisk() error {
	f, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// streamPrefix is the subject prefix of every stream: there is one at a time.
const streamPrefix = "bench"

// newStream names a stream for one measurement. done deletes it.
func (b *bench) newStream() (name string, done func()) {
	b.count++
	name = fmt.Sprintf("BENCH%d", b.count)
	return name, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 30*time.Second)
		defer cancel()
		b.js.DeleteStream(ctx, name) // the server is going to be killed anyway
	}
}

// scaled is n messages, fewer in a short run.
func (b *bench) scaled(n int) int { return max(int(float64(n)*b.scale), 2000) }
