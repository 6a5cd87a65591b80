package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// natsReady bounds how long a NATS server may take until it answers.
const natsReady = 20 * time.Second

// NATS is a JetStream server inside this process.
type NATS struct {
	s *server.Server
}

// StartNATS starts a JetStream server in this process on a free loopback port,
// with its store in dir. Each change may alter the options before the start.
func StartNATS(dir string, change ...func(*server.Options)) (*NATS, error) {
	o := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: dir,
		NoLog: true, NoSigs: true,
	}
	for _, f := range change {
		f(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("start NATS server in process: %w", err)
	}
	end := &fatal{said: make(chan string, 1)}
	s.SetLogger(end, false, false)
	s.Start()
	if err := ready(s, end, dir); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start NATS server in process: %w", err)
	}
	return &NATS{s}, nil
}

// ready waits until s answers. What ends it before that is about its store.
func ready(s *server.Server, end *fatal, dir string) error {
	for deadline := time.Now().Add(natsReady); time.Now().Before(deadline); {
		if s.ReadyForConnections(100 * time.Millisecond) {
			return nil
		}
		select {
		case text := <-end.said:
			return &fs.PathError{Op: "use", Path: dir, Err: errors.New(text)}
		default:
		}
	}
	return fmt.Errorf("not ready after %v", natsReady)
}

// fatal is a logger that keeps what a server says as it gives up.
type fatal struct{ said chan string }

func (f *fatal) Fatalf(format string, v ...any) {
	select {
	case f.said <- fmt.Sprintf(format, v...):
	default:
	}
}

func (*fatal) Noticef(string, ...any) {}
func (*fatal) Warnf(string, ...any)   {}
func (*fatal) Errorf(string, ...any)  {}
func (*fatal) Debugf(string, ...any)  {}
func (*fatal) Tracef(string, ...any)  {}

// URL is where the server listens.
func (n *NATS) URL() string { return n.s.ClientURL() }

// Stop ends the server and waits until it has closed its files.
func (n *NATS) Stop() {
	n.s.Shutdown()
	n.s.WaitForShutdown()
}
