package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl/internal/dial"
)

// barePublisher publishes as nats bench does: Publish in a loop, Flush at the
// end, and nothing else; the payload is always the same.
type barePublisher struct {
	counts
	nc      *nats.Conn
	subject string
	payload []byte
	stopped *atomic.Bool
}

func newBarePublisher(t *trial, at natsAt) (publisher, error) {
	to := dial.NATS{TLS: at.tls}
	nc, err := to.Connect(context.Background(), at.url, at.options()...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return &barePublisher{nc: nc, subject: t.subject(0, 0), payload: filler(t.c.Size), stopped: &t.stopped}, nil
}

func (p *barePublisher) publish(<-chan struct{}) error {
	for !p.stopped.Load() {
		if err := p.nc.Publish(p.subject, p.payload); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		p.sent.Add(1)
	}
	err := p.nc.FlushTimeout(flushTime)
	p.lastConfirm.Store(now())
	return err
}

func (p *barePublisher) windowed() int    { return 0 }
func (p *barePublisher) counted() *counts { return &p.counts }
func (p *barePublisher) close()           { p.nc.Close() }

// flushTime is how long the server may take to read what was sent.
const flushTime = 30 * time.Second

// mosquittoLines is how many lines mosquitto_pub gets at once: of more 2.0.11
// loses some now and then, with exit code 0.
const mosquittoLines = 20000

// mosquittoPubs runs mosquitto_pub -l, again and again.
type mosquittoPubs struct {
	counts
	program string
	dir     string // with a file of options
	lines   string
	stopped *atomic.Bool
}

func newMosquittoPub(t *trial, broker brokerAt) (publisher, error) {
	p := &mosquittoPubs{program: mosquittoPub(), dir: t.dir, stopped: &t.stopped, lines: strings.Repeat(string(filler(t.c.Size))+"\n", mosquittoLines)}
	if p.program == "" {
		return nil, errors.New("mosquitto_pub is not installed: apt-get install mosquitto-clients")
	}
	options := []string{"-h " + broker.Hostname(), "-p " + broker.Port(), "-t " + t.topic(0, 0), "-q 1", "-l"}
	if password, has := broker.User.Password(); broker.User != nil {
		options = append(options, "-u "+broker.User.Username())
		if has {
			options = append(options, "-P "+password)
		}
	}
	if dial.Secure(broker.Scheme) {
		options = append(options, mosquittoTLS(broker.tls)...)
	}
	// In a file, or everyone could read the password.
	return p, os.WriteFile(filepath.Join(t.dir, "mosquitto_pub"), []byte(strings.Join(options, "\n")+"\n"), 0o600)
}

// mosquittoTLS are t as mosquitto_pub's options.
func mosquittoTLS(t dial.TLS) (options []string) {
	if t.CA != "" {
		options = append(options, "--cafile "+t.CA)
	} else {
		options = append(options, "--tls-use-os-certs")
	}
	if t.Cert != "" {
		options = append(options, "--cert "+t.Cert, "--key "+t.Key)
	}
	if t.AnyName {
		options = append(options, "--insecure")
	}
	return options
}

func (p *mosquittoPubs) publish(<-chan struct{}) error {
	for !p.stopped.Load() {
		cmd := exec.Command(p.program)
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+p.dir)
		cmd.Stdin = io.Reader(strings.NewReader(p.lines))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("mosquitto_pub: %w: %s", err, out)
		}
		p.sent.Add(mosquittoLines)
		p.lastConfirm.Store(now())
	}
	return nil
}

func (p *mosquittoPubs) windowed() int    { return 0 }
func (p *mosquittoPubs) counted() *counts { return &p.counts }
func (p *mosquittoPubs) close()           {}
