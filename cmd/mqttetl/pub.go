package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/mosquitto"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// publisher is mqttetl pub.
type publisher struct {
	*tool
	topic, text, file  string
	qos                uint8
	retain             bool
	null, lines, whole bool
	window, repeat     int
	repeatDelay        float64

	mu       sync.Mutex
	sent     int
	answered int
	refused  int
	refusal  error // the first one
}

func newPub(std streams) *cobra.Command {
	p := &publisher{}
	cmd := &cobra.Command{
		Use:   "pub -t TOPIC {-m TEXT | -f FILE | -s | -l | -n}",
		Short: "Publish, with the options of mosquitto_pub",
		Long: `Pub publishes one message, or with -l each line of standard input as one, and
ends when the broker has acknowledged what was sent with QoS 1 and 2. -l keeps
up to -M messages unacknowledged at once and says at the end how many the broker
has acknowledged.

Defaults, one option a line: $XDG_CONFIG_HOME/mqttetl/defaults.

Exit codes: 0, 1 a message was refused, 2 usage or a broker that breaks the protocol,
69 broker not reachable, 77 login refused, otherwise the reason code of a refused
CONNECT of MQTT 5.`,
		Example: `  mqttetl pub -h test.mosquitto.org -t mqttetl/hello -m 'hello, world'
  mqttetl pub -t factory/1/temperature -q 1 -r -m 21.5
  seq 1 100000 | mqttetl pub -t numbers -q 1 -l
  mqttetl pub -V 5 -t a -m b -D publish user-property name value`,
	}
	p.tool = newTool(std, cmd, p.run)
	f := cmd.Flags()
	f.StringVarP(&p.topic, "topic", "t", "", "topic to publish to")
	f.StringVarP(&p.text, "message", "m", "", "publish this text")
	f.StringVarP(&p.file, "file", "f", "", "publish this file as one message")
	f.BoolVarP(&p.whole, "stdin-file", "s", false, "publish all of standard input as one message")
	f.BoolVarP(&p.lines, "stdin-line", "l", false, "publish each line of standard input")
	f.BoolVarP(&p.null, "null-message", "n", false, "publish an empty message")
	f.Uint8VarP(&p.qos, "qos", "q", 0, "QoS")
	f.BoolVarP(&p.retain, "retain", "r", false, "the broker keeps the message for later subscribers")
	f.IntVarP(&p.window, "max-inflight", "M", client.DefaultWindow, "messages unacknowledged at once; with -q 2 and MQTT 3.1.1 20 unless it is given")
	f.IntVar(&p.repeat, "repeat", 1, "how often to publish it")
	f.Float64Var(&p.repeatDelay, "repeat-delay", 0, "seconds between them")
	f.VarP(mosquitto.SameAs(f, "will-topic"), "will-topic-too", "w", "")
	_ = f.MarkHidden("will-topic-too") // the letter is that of mqtt_publish.lua
	return cmd
}

func (p *publisher) checkOptions(topic string) error {
	if p.topic == "" {
		p.topic = topic
	}
	modes := 0
	for _, given := range []bool{p.Changed("message"), p.file != "", p.whole, p.lines, p.null} {
		if given {
			modes++
		}
	}
	switch {
	case modes > 1:
		return errors.New("-m, -f, -s, -l and -n exclude one another")
	case p.qos > 2:
		return fmt.Errorf("-q %d: QoS is 0, 1 or 2", p.qos)
	case p.window < 1 || p.window > 65535:
		return errors.New("-M must be 1 to 65535")
	case p.repeat < 1:
		return errors.New("--repeat must be 1 or more")
	case !isSeconds(p.repeatDelay) && p.repeatDelay != 0:
		return fmt.Errorf("--repeat-delay must be 0 to %d seconds", mostSeconds)
	case p.lines && p.Changed("repeat"):
		return errors.New("--repeat excludes -l")
	case p.topic == "":
		return errors.New("where to? -t names a topic")
	}
	if err := mqttetl.CheckTopic([]byte(p.topic)); err != nil {
		return err
	}
	if modes == 0 {
		return errors.New("what to publish? one of -m, -f, -s, -l, -n")
	}
	return nil
}

func (p *publisher) run(ctx context.Context) error {
	u, topic, err := p.Target()
	if err == nil {
		err = p.checkOptions(topic)
	}
	if err != nil {
		return usageError{err, p.cmd}
	}
	m := &client.Message{Topic: p.topic, QoS: p.qos, Retain: p.retain, Properties: p.Property(wire.ForPublish)}
	if m.Payload, err = p.payload(); err != nil {
		return err
	}
	if err := m.Check(); err != nil {
		return usageError{err, p.cmd}
	}
	// MQTT 3.1.1 has no receive maximum to go by, and Mosquitto with
	// max_queued_messages 0 ends a connection that has more under way.
	window311 := 0
	if p.qos == 2 && !p.Changed("max-inflight") {
		window311 = 20
	}
	begun := time.Now()
	c, err := p.Connect(ctx, u, client.Options{Window: p.window, Window311: window311, Acknowledged: p.acknowledged})
	if err != nil {
		return codeOf(err)
	}
	defer c.Close()
	done := make(chan error, 1)
	go func() { done <- p.publish(ctx, c, m) }() // may wait for standard input
	select {
	case err = <-done:
	case <-c.Done():
		err = c.Err()
	case <-ctx.Done():
		err = ctx.Err()
	}
	if p.lines {
		p.report(time.Since(begun))
	}
	c.Disconnect(0)
	if refused := p.refusals(); refused != nil {
		return refused // some brokers close the connection after a refusal
	}
	if errors.Is(err, mqttetl.ErrUnavailable) && mqttetl.Hint(err) == "" && c.InFlight() > 0 {
		hint := "a broker may end the connection for a message that it does not take, such as one over its limit"
		if c.Version() != client.Version5 {
			hint += "; with -V 5 more of them say why"
		}
		err = mqttetl.WithHint(err, hint)
	}
	return codeOf(err)
}

// payload is what to publish, nil with -l.
func (p *publisher) payload() ([]byte, error) {
	switch {
	case p.file != "":
		return os.ReadFile(p.file)
	case p.whole:
		return io.ReadAll(p.std.in)
	}
	return []byte(p.text), nil
}

// publish sends everything and waits for the acknowledgements.
func (p *publisher) publish(ctx context.Context, c *client.Client, m *client.Message) error {
	if p.lines {
		err := p.eachLine(ctx, c, m)
		if drained := c.Drain(ctx); err == nil {
			err = drained
		}
		return err
	}
	for i := range p.repeat {
		if i > 0 && p.repeatDelay > 0 {
			c.Flush()
			if !backoff.Pause(ctx, time.Duration(p.repeatDelay*float64(time.Second))) {
				return ctx.Err()
			}
		}
		if err := p.send(c, m); err != nil {
			return err
		}
	}
	return c.Drain(ctx)
}

func (p *publisher) send(c *client.Client, m *client.Message) error {
	if _, err := c.Publish(m); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	return nil
}

// eager lets messages leave before it waits for more input.
type eager struct {
	io.Reader
	c *client.Client
}

func (e eager) Read(p []byte) (int, error) {
	e.c.Flush()
	return e.Reader.Read(p)
}

// eachLine sends every line of standard input, without its line feed.
func (p *publisher) eachLine(ctx context.Context, c *client.Client, m *client.Message) error {
	in := bufio.NewReaderSize(eager{p.std.in, c}, 64<<10)
	var long []byte
	for ctx.Err() == nil {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read standard input: %w", err)
		}
		if len(long) > 0 {
			long = append(long, line...)
			line = long
		}
		if err != nil && len(line) == 0 {
			return nil
		}
		m.Payload = bytes.TrimSuffix(line, []byte{'\n'})
		if err := m.Check(); err != nil {
			return err
		}
		if err := p.send(c, m); err != nil {
			return err
		}
		long = long[:0]
	}
	return ctx.Err()
}

// acknowledged counts an answer of the broker.
func (p *publisher) acknowledged(_ uint16, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered++
	if err != nil {
		p.refused++
		if p.refusal == nil {
			p.refusal = err
		}
	}
}

// report says what became of the lines.
func (p *publisher) report(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := took.Seconds()
	if p.qos == 0 {
		p.say("sent %d messages in %.2f s (%.0f/s); QoS 0 is not acknowledged", p.sent, s, float64(p.sent)/s)
		return
	}
	p.say("sent %d messages in %.2f s (%.0f/s), the broker has acknowledged %d", p.sent, s, float64(p.sent)/s, p.answered-p.refused)
}

// refusals is the error of messages that the broker did not take.
func (p *publisher) refusals() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal == nil {
		return nil
	}
	if p.sent == 1 {
		return fmt.Errorf("topic %s: %w", p.topic, p.refusal)
	}
	return fmt.Errorf("%d of %d messages refused: topic %s: %w", p.refused, p.sent, p.topic, p.refusal)
}
