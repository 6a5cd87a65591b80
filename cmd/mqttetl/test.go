package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/visible"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// tester is mqttetl test.
type tester struct {
	*tool
	topic, filter, text string
	qos                 uint8
	retain              bool
	interval            time.Duration
	count               int
	timeout             float64

	mu        sync.Mutex
	published map[uint16]time.Time // by packet id, until it is acknowledged
	numbers   map[uint16]int       // the message that a packet id belongs to
	sentAt    map[int]time.Time    // by number, until the message comes back
	trips     []time.Duration
	received  int
	refusal   error
	quit      chan struct{} // closed when a payload says quit
}

func newTest(std streams) *cobra.Command {
	t := &tester{
		published: map[uint16]time.Time{}, numbers: map[uint16]int{}, sentAt: map[int]time.Time{},
		quit: make(chan struct{}),
	}
	cmd := &cobra.Command{
		Use:   "test [HOST]",
		Short: "Try a broker: publish periodically, subscribe, and time both directions",
		Long: `Test publishes a message every --interval on one topic and prints what arrives for
a filter: "->" lines are messages sent, with the time until the broker's
acknowledgement (QoS 1 and 2), "<-" lines are messages received, with the round
trip of those that this test has sent itself. If the filter does not match the
topic, another client's answers are what arrives. It ends on the payload "quit".

With a HOST, as mqtt_test.lua has it, the defaults are that tool's: a message a
second on test/1, the filter test/2. Its --topic_p is -t, its --topic_s is -s.

Exit codes: 0, 2 usage or a broker that breaks the protocol, 27 timed out (-W), 69
broker not reachable or lost, 77 login refused, else 1.`,
		Example: `  mqttetl test -h test.mosquitto.org -C 5
  mqttetl test 127.0.0.1
  mqttetl test -t test/1 --subscribe test/2 -q 1
  mosquitto_pub -t test/2 -m quit`,
	}
	t.tool = newTool(std, cmd, t.run)
	t.HostArgument = true
	f := cmd.Flags()
	f.StringVarP(&t.topic, "topic", "t", "", "topic to publish to (default mqttetl/test/ and the client id)")
	f.StringVarP(&t.filter, "subscribe", "s", "", "filter to subscribe to (default the topic)")
	f.StringVarP(&t.text, "message", "m", "mqttetl test", "text of the messages; a number follows it")
	f.Uint8VarP(&t.qos, "qos", "q", 1, "QoS of both directions")
	f.BoolVarP(&t.retain, "retain", "r", false, "the broker keeps the last message")
	f.DurationVar(&t.interval, "interval", time.Second, "time between messages")
	f.IntVarP(&t.count, "count", "C", 0, "end after this number of messages is sent and, if they come back, received")
	f.Float64VarP(&t.timeout, "timeout", "W", 0, "end after this number of seconds, with exit code 27")
	return cmd
}

func (t *tester) checkOptions(topic string) error {
	byLua := t.cmd.Flags().NArg() > 0
	t.topic = cmp.Or(t.topic, topic)
	if byLua {
		t.topic, t.filter = cmp.Or(t.topic, "test/1"), cmp.Or(t.filter, "test/2")
	}
	t.topic = cmp.Or(t.topic, "mqttetl/test/"+t.ID)
	t.filter = cmp.Or(t.filter, t.topic)
	switch {
	case t.qos > 2:
		return fmt.Errorf("-q %d: QoS is 0, 1 or 2", t.qos)
	case t.interval <= 0:
		return errors.New("--interval must be above 0")
	case t.Changed("count") && t.count < 1:
		return errors.New("-C must be 1 or more")
	case t.Changed("timeout") && !isSeconds(t.timeout):
		return fmt.Errorf("-W must be above 0, and at most %d seconds", mostSeconds)
	}
	return errors.Join(mqttetl.CheckTopic([]byte(t.topic)), client.CheckFilter(t.filter))
}

func (t *tester) run(ctx context.Context) error {
	u, topic, err := t.Target()
	if err == nil {
		err = t.checkOptions(topic)
	}
	if err != nil {
		return usageError{err, t.cmd}
	}
	c, err := t.Connect(ctx, u, client.Options{Receive: t.receive, Acknowledged: t.acknowledged})
	if err != nil {
		return codeOf(err)
	}
	defer c.Disconnect(0)
	filter := client.Filter{Topic: t.filter, QoS: t.qos}
	answers, err := c.Subscribe(ctx, []client.Filter{filter}, t.Property(wire.ForSubscribe))
	if err == nil {
		err = client.Refused(filter, answers[0])
	}
	if err != nil {
		return codeOf(err)
	}
	if answers[0].Code < t.qos {
		t.say("mqttetl: filter %s: the broker grants QoS %d, %d was asked", t.filter, answers[0].Code, t.qos)
	}
	err = t.loop(ctx, c)
	t.summary()
	return codeOf(err)
}

// loop publishes until something ends it.
func (t *tester) loop(ctx context.Context, c *client.Client) error {
	var timedOut <-chan time.Time
	if t.timeout > 0 {
		timedOut = time.After(time.Duration(t.timeout * float64(time.Second)))
	}
	next := time.NewTicker(t.interval)
	defer next.Stop()
	for n := 1; ; n++ {
		if t.count == 0 || n <= t.count {
			if err := t.send(c, n); err != nil {
				return err
			}
		}
		select {
		case <-next.C:
		case <-t.quit:
			return t.failure()
		case <-c.Done():
			return c.Err()
		case <-timedOut:
			return errTimedOut
		case <-ctx.Done():
			return nil
		}
		if t.complete() {
			return t.failure()
		}
	}
}

// complete says whether -C messages have gone and come.
func (t *tester) complete() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	comesBack := mqttetl.Filter(t.filter).Matches([]byte(t.topic))
	return t.count > 0 && len(t.published) == 0 && t.sent() >= t.count && (!comesBack || len(t.sentAt) == 0)
}

// sent is how many messages have been published.
func (t *tester) sent() int { return len(t.trips) + len(t.sentAt) }

func (t *tester) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refusal
}

func (t *tester) send(c *client.Client, n int) error {
	m := &client.Message{
		Topic: t.topic, Payload: fmt.Appendf(nil, "%s %d", t.text, n), QoS: t.qos, Retain: t.retain,
		Properties: t.Property(wire.ForPublish),
	}
	t.mu.Lock() // so that the acknowledgement is not seen before the message
	defer t.mu.Unlock()
	at := time.Now()
	id, err := c.Publish(m)
	if err != nil {
		return err
	}
	c.Flush()
	t.sentAt[n] = at
	if id == 0 {
		t.print("-> %s %s", t.topic, m.Payload)
		return nil
	}
	t.published[id], t.numbers[id] = at, n
	return nil
}

// acknowledged prints a message that the broker has answered for.
func (t *tester) acknowledged(id uint16, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, n := t.published[id], t.numbers[id]
	delete(t.published, id)
	if err != nil {
		t.refusal = err
		t.print("-> %s %s %d: %v", t.topic, t.text, n, err)
		return
	}
	t.print("-> %s %s %d: acknowledged after %s", t.topic, t.text, n, time.Since(at).Round(10*time.Microsecond))
}

// receive prints a message that has arrived.
func (t *tester) receive(m *client.Received) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received++
	topic, payload := visible.Append(nil, m.Topic), visible.Append(nil, m.Payload)
	trip := ""
	if number, ok := bytes.CutPrefix(m.Payload, []byte(t.text+" ")); ok && string(m.Topic) == t.topic {
		if n, err := strconv.Atoi(string(number)); err == nil && !t.sentAt[n].IsZero() {
			d := time.Since(t.sentAt[n])
			delete(t.sentAt, n)
			t.trips = append(t.trips, d)
			trip = fmt.Sprintf(": round trip %s", d.Round(10*time.Microsecond))
		}
	}
	t.print("<- %s %s%s", topic, payload, trip)
	if string(m.Payload) == "quit" {
		select {
		case <-t.quit:
		default:
			close(t.quit)
		}
	}
	return nil
}

func (t *tester) print(format string, args ...any) {
	fmt.Fprintf(t.std.out, format+"\n", args...)
}

// summary tells the round trips.
func (t *tester) summary() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.trips) == 0 {
		t.say("sent %d, received %d", t.sent(), t.received)
		return
	}
	var sum, most time.Duration
	least := t.trips[0]
	for _, d := range t.trips {
		sum, most, least = sum+d, max(most, d), min(least, d)
	}
	mean := sum / time.Duration(len(t.trips))
	t.say("sent %d, received %d; round trip least %s, mean %s, most %s", t.sent(), t.received,
		least.Round(10*time.Microsecond), mean.Round(10*time.Microsecond), most.Round(10*time.Microsecond))
}
