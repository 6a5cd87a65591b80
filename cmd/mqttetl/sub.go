package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/mosquitto/format"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// subscriber is mqttetl sub.
type subscriber struct {
	*tool
	topics, filterOut, unsubscribe      []string
	qos                                 uint8
	count                               int
	timeout                             float64
	formatText                          string
	exitAfter, noRetained, retainedOnly bool
	removeRetained, asPublished, pretty bool
	random                              float64
	retainHandling                      string
	window                              int
	rate                                bool

	style   format.Style
	watch   *watch // nil: lines follow one another
	counted atomic.Int64
	out     *bufio.Writer
	buf     []byte
	printed int
	mute    []mqttetl.Filter
	ready   chan struct{} // closed when conn is set
	conn    *client.Client

	connected time.Time // when conn was accepted
}

func newSub(std streams) *cobra.Command {
	s := &subscriber{out: bufio.NewWriterSize(std.out, 64<<10)}
	cmd := &cobra.Command{
		Use:   "sub -t FILTER",
		Short: "Subscribe and print messages, with the options of mosquitto_sub",
		Long: `Sub prints the messages of the filters to standard output, by default their
payloads, one a line. It reconnects when a connection that it had is lost. On a
terminal, control bytes are shown as \xNN.

-F prints what its letters ask for: %t topic, %p payload, %x %X in hexadecimal
(%.2:x with a colon after every 2 digits), %f %d a payload of 4 or 8 bytes as
the number it is, %l length, %q QoS, %r retained, %m packet id, %I time (RFC
3339), %U Unix time, %j JSON, %J JSON with the payload as JSON, of MQTT 5 %A %C
%D %E %F %P %R %S; flags, width and precision as in printf; @X is strftime's %X,
@N nanoseconds; \0 \a \e \n \r \t \v \\ as in C.

Defaults, one option a line: $XDG_CONFIG_HOME/mqttetl/defaults.

Exit codes: 0, 2 usage or a broker that breaks the protocol, 27 timed out (-W), 69
broker not reachable, 77 login refused, otherwise the reason code of a refused CONNECT
of MQTT 5, else 1.`,
		Example: `  mqttetl sub -h test.mosquitto.org -t '$SYS/broker/version' -C 1 -W 10
  mqttetl sub -t 'factory/#' -v
  mqttetl sub -t 'factory/#' -q 1 -c -i reader -F '%I %t %q %j'
  mqttetl sub -L wss://broker.example/mqtt --cafile ca.pem -t '#' -T '$SYS/#'`,
	}
	s.tool = newTool(std, cmd, s.run)
	f := cmd.Flags()
	f.StringArrayVarP(&s.topics, "topic", "t", nil, "filter to subscribe to; may be repeated")
	f.StringArrayVarP(&s.filterOut, "filter-out", "T", nil, "print nothing of this filter; may be repeated")
	f.StringArrayVarP(&s.unsubscribe, "unsubscribe", "U", nil, "unsubscribe from this filter first; may be repeated")
	f.Uint8VarP(&s.qos, "qos", "q", 0, "QoS of the subscriptions")
	f.IntVarP(&s.count, "count", "C", 0, "end after this number of messages")
	f.Float64VarP(&s.timeout, "timeout", "W", 0, "end after this number of seconds, with exit code 27")
	f.BoolVarP(&s.exitAfter, "exit-after-subscribe", "E", false, "end when the broker has answered the subscriptions")
	f.StringVarP(&s.formatText, "format", "F", "", "print by this format")
	f.BoolVarP(&s.style.Verbose, "verbose", "v", false, "print topic and payload")
	f.BoolVarP(&s.style.NoEOL, "no-eol", "N", false, "no line end after a message")
	f.BoolVarP(&s.noRetained, "no-retained", "R", false, "print no retained messages")
	f.BoolVar(&s.retainedOnly, "retained-only", false, "print retained messages only, end at the first other")
	f.BoolVar(&s.removeRetained, "remove-retained", false, "clear the retained messages that arrive")
	f.BoolVar(&s.asPublished, "retain-as-published", false, "leave the retained flag as it was published (MQTT 5)")
	f.BoolVar(&s.pretty, "pretty", false, "JSON over several lines")
	f.Float64Var(&s.random, "random-filter", 100, "print only this percentage of messages")
	f.StringVar(&s.retainHandling, "retain-handling", "", "retained messages come always, to new subscriptions, or never: always, new, never (MQTT 5)")
	f.IntVarP(&s.window, "max-inflight", "M", 0, "messages that the broker may have unacknowledged at once (MQTT 5)")
	f.BoolP("watch", "w", false, "keep a line of the screen for each topic")
	f.BoolVar(&s.rate, "message-rate", false, "print how many messages come in a second, and not the messages")
	s.Only5 = append(s.Only5, "retain-as-published", "retain-handling", "max-inflight")
	return cmd
}

// checkOptions finds what cannot be.
func (s *subscriber) checkOptions(topic string) error {
	if topic != "" {
		s.topics = append(s.topics, topic)
	}
	for _, f := range slices.Concat(s.topics, s.unsubscribe, s.filterOut) {
		if err := client.CheckFilter(f); err != nil {
			return err
		}
	}
	if s.Changed("format") {
		f, err := format.Parse(s.formatText)
		if err != nil {
			return err
		}
		f.Pretty = s.pretty
		s.style.Format = f
	}
	for _, f := range s.filterOut {
		s.mute = append(s.mute, mqttetl.Filter(f))
	}
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{s.qos > 2, fmt.Sprintf("-q %d: QoS is 0, 1 or 2", s.qos)},
		{s.Changed("count") && s.count < 1, "-C must be 1 or more"},
		{s.Changed("timeout") && !isSeconds(s.timeout), fmt.Sprintf("-W must be above 0, and at most %d seconds", mostSeconds)},
		{s.noRetained && s.retainedOnly, "-R and --retained-only exclude one another"},
		{!(s.random >= 0.1 && s.random <= 100), "--random-filter must be 0.1 to 100"},
		{s.Changed("max-inflight") && (s.window < 1 || s.window > 65535), "-M must be 1 to 65535"},
		{s.Changed("retain-handling") && retainHandling(s.retainHandling) < 0, fmt.Sprintf("--retain-handling %s: it must be always, new or never", s.retainHandling)},
		{s.rate && s.Changed("watch"), "--message-rate and -w exclude one another"},
		{len(s.topics)+len(s.unsubscribe) == 0, "what to subscribe to? -t names a filter"},
	} {
		if c.bad {
			return errors.New(c.text)
		}
	}
	s.style.Visible = isTerminal(s.std.out)
	if s.Changed("max-inflight") {
		return s.SetProperty(wire.ForConnect, "receive-maximum", strconv.Itoa(s.window))
	}
	return nil
}

// retainHandling is the option of a subscription (MQTT 5 §3.8.3.1), -1 if there
// is none of that name.
func retainHandling(name string) int { return slices.Index([]string{"always", "new", "never"}, name) }

// run connects, and connects again when the connection is lost.
func (s *subscriber) run(ctx context.Context) error {
	u, topic, err := s.Target()
	if err == nil {
		err = s.checkOptions(topic)
	}
	if err != nil {
		return usageError{err, s.cmd}
	}
	if s.Changed("watch") {
		s.watch = newWatch()
		s.buf = s.watch.begin(s.buf[:0], u.Hostname())
		_, _ = s.out.Write(s.buf) // Flush says so
	}
	timedOut := make(<-chan time.Time)
	short := 0
	for first := true; ; first = false {
		before := s.connected
		err := s.session(ctx, u, &timedOut)
		if s.connected != before && time.Since(s.connected) < shortLife {
			short++
		} else if s.connected != before {
			short = 0
		}
		var refused *client.Refusal
		lost := errors.Is(err, mqttetl.ErrUnavailable) && (!first || s.conn != nil)
		switch {
		case errors.Is(err, client.ErrStop), ctx.Err() != nil:
			return s.out.Flush()
		case !lost || errors.As(err, &refused) && refused.TakenOver():
			return errors.Join(codeOf(err), s.out.Flush())
		case short >= shortMost:
			return errors.Join(mqttetl.WithHint(fmt.Errorf("%w, %d times soon after accepting it", err, short),
				"another client may be using the same client id: each needs one of its own (-i)"), s.out.Flush())
		}
		s.say("mqttetl: %v; connecting again", oneLine(err))
		select {
		case <-ctx.Done():
			return s.out.Flush()
		case <-timedOut:
			return errors.Join(errTimedOut, s.out.Flush())
		case <-time.After(reconnectTime):
		}
	}
}

// A connection that ends within shortLife may have been taken over by a client
// with the same id, to which many brokers give no reason; after shortMost in a
// row it is no use to go on.
const (
	shortLife = 5 * time.Second
	shortMost = 3
)

// reconnectTime is how long sub waits before it connects again.
const reconnectTime = time.Second

// session is one connection. It returns client.ErrStop when all is done.
func (s *subscriber) session(ctx context.Context, u *url.URL, timedOut *<-chan time.Time) error {
	s.ready = make(chan struct{})
	c, err := s.Connect(ctx, u, client.Options{Receive: s.receive, Flush: s.out.Flush, Hold: s.exitAfter})
	if err != nil {
		return err
	}
	defer c.Close()
	if s.conn == nil && s.timeout > 0 {
		*timedOut = time.After(time.Duration(s.timeout * float64(time.Second)))
	}
	s.conn, s.connected = c, time.Now()
	close(s.ready)
	asked := make(chan error, 1)
	go func() { asked <- s.subscribe(ctx, c) }()
	var second <-chan time.Time
	if s.rate {
		ticks := time.NewTicker(time.Second)
		defer ticks.Stop()
		second = ticks.C
	}
	for {
		select {
		case <-second:
			if _, err := fmt.Fprintf(s.std.out, "%d msgs/s\n", s.counted.Swap(0)); err != nil {
				return fmt.Errorf("print the rate: %w", err)
			}
		case <-c.Done():
			return c.Err()
		case <-ctx.Done():
			c.Disconnect(0)
			return ctx.Err()
		case <-*timedOut:
			c.Disconnect(0)
			return errTimedOut
		case err := <-asked:
			if err == nil && !s.exitAfter {
				continue
			}
			c.Disconnect(0)
			if err == nil {
				err = client.ErrStop
			}
			return err
		}
	}
}

// subscribe asks for all filters; it fails if the broker refuses every one.
func (s *subscriber) subscribe(ctx context.Context, c *client.Client) error {
	filters := make([]client.Filter, len(s.topics))
	for i, t := range s.topics {
		filters[i] = client.Filter{Topic: t, QoS: s.qos, RetainAsPublished: s.asPublished, RetainHandling: byte(max(0, retainHandling(s.retainHandling)))}
	}
	var granted int
	var refusals []error
	if len(filters) > 0 {
		answers, err := c.Subscribe(ctx, filters, s.Property(wire.ForSubscribe))
		if err != nil {
			return err
		}
		for i, answer := range answers {
			if err := client.Refused(filters[i], answer); err != nil {
				refusals = append(refusals, err)
				continue
			}
			granted++
			if answer.Code < s.qos {
				s.say("mqttetl: filter %s: the broker grants QoS %d, %d was asked", filters[i].Topic, answer.Code, s.qos)
			}
		}
	}
	if len(s.unsubscribe) > 0 {
		if err := c.Unsubscribe(ctx, s.unsubscribe, s.Property(wire.ForUnsubscribe)); err != nil {
			return err
		}
	}
	if granted == 0 && len(refusals) > 0 {
		return errors.Join(refusals...)
	}
	for _, err := range refusals {
		s.say("mqttetl: %v", err)
	}
	return nil
}

// receive prints one message.
func (s *subscriber) receive(m *client.Received) error {
	s.counted.Add(1)
	switch {
	case s.exitAfter: // not printed and not acknowledged, so that a kept session keeps it
		return nil
	case s.retainedOnly && !m.Flags.Retain():
		return client.ErrStop
	case slices.ContainsFunc(s.mute, func(f mqttetl.Filter) bool { return f.Matches(m.Topic) }):
		return nil
	}
	if s.removeRetained && m.Flags.Retain() && len(m.Payload) > 0 {
		<-s.ready
		if _, err := s.conn.Publish(&client.Message{Topic: string(m.Topic), Retain: true}); err != nil {
			return err
		}
	}
	if s.noRetained && m.Flags.Retain() || s.random < 100 && rand.Float64()*100 >= s.random {
		return nil
	}
	if s.rate {
		return s.counts()
	}
	var err error
	s.buf, err = s.style.Append(s.buf[:0], &format.Message{Message: m.Message, ID: m.ID, Time: time.Now()})
	if err != nil {
		s.say("mqttetl: %v", err)
	}
	if s.watch != nil {
		s.buf = s.watch.place(s.buf, m.Topic)
	}
	if _, err := s.out.Write(s.buf); err != nil {
		return fmt.Errorf("print message: %w", err)
	}
	if cap(s.buf) > 1<<20 {
		s.buf = nil // one large message is not worth keeping its memory
	}
	return s.counts()
}

// counts counts a message, which may have been the last one (-C).
func (s *subscriber) counts() error {
	if s.printed++; s.printed == s.count {
		return client.ErrStop
	}
	return nil
}
