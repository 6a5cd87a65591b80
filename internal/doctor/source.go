package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// Patience of the checks.
const (
	patience  = 15 * time.Second
	quietTime = 500 * time.Millisecond // nothing more arrives after so long
)

// patient examines one source.
type patient struct {
	*doctor
	part   string
	source *config.Source
	url    *url.URL
	conn   *client.Client
	held   atomic.Int64 // messages of ours that arrived and were not acknowledged
	last   atomic.Int64 // when the last of them arrived, Unix ns
	topic  string
	trip   time.Duration // of a SUBSCRIBE and its answer
	drops  chan string   // what the broker says it has dropped
}

// source makes the checks of one source, as far as each lets the next be made.
func (d *doctor) source(ctx context.Context, s *config.Source) {
	p := &patient{
		doctor: d, part: partOf(s), source: s,
		topic: "mqttetl/doctor/" + rand.Text()[:12], drops: make(chan string, 1),
	}
	ctx, cancel := context.WithTimeout(ctx, 4*patience)
	defer cancel()
	if !p.login(ctx) {
		return
	}
	defer p.leave(ctx, p.conn)
	p.subscriptions(ctx)
	p.dropped(ctx)
	if !p.Probe {
		if slow := p.cfg.Log.SlowWindow(); p.conn.Version() != client.Version5 && p.source.QoS > 0 && slow != "" {
			p.add(p.part, "commit interval", Warn, "doctor --probe measures the window", "%s", slow)
		}
		p.add(p.part, "window", OK, "doctor --probe measures it: it publishes to mqttetl/doctor/…", "not measured")
		return
	}
	if window := p.window(ctx); window > 0 {
		if rate := p.ceiling(ctx); rate > 0 {
			p.heldUp(window, rate)
		}
	}
}

// leave says goodbye, unless somebody is waiting for the end.
func (p *patient) leave(ctx context.Context, c *client.Client) {
	if ctx.Err() != nil {
		c.Close()
		return
	}
	c.Disconnect(0)
}

// login connects with the version that the source would use.
func (p *patient) login(ctx context.Context) bool {
	u, err := dial.URL(p.source.URL)
	if err != nil {
		p.failed(p.part, "reachable", "", err)
		return false
	}
	p.url = u
	began := time.Now()
	version, _ := client.ParseVersion(p.source.Version) // which the configuration has checked
	p.conn, err = p.connect(ctx, version, client.Options{Receive: p.receive, Hold: true})
	var r *client.Refusal
	switch {
	case errors.As(err, &r):
		p.add(p.part, "reachable", OK, "", "%s", u.Host)
		p.failed(p.part, "login", "", err)
	case errors.As(err, new(*fs.PathError)):
		p.failed(p.part, "login", "", err) // a file of ours
	case err != nil:
		p.failed(p.part, "reachable", "start the broker, check host, port and firewall", err)
	default:
		p.add(p.part, "reachable", OK, "", "%s, connected in %s", u.Host, time.Since(began).Round(100*time.Microsecond))
		p.add(p.part, "login", OK, "", "accepted, %s", p.version())
	}
	return err == nil
}

func (p *patient) version() string {
	if p.conn.Version() == client.Version5 {
		return "MQTT 5"
	}
	return "MQTT 3.1.1"
}

// connect logs in as the source would, but for the client id; o says what else.
func (p *patient) connect(ctx context.Context, version byte, o client.Options) (*client.Client, error) {
	s := p.source
	o.Version, o.ClientID, o.CleanStart = version, s.ClientID+"-doctor-"+rand.Text()[:8], true
	o.KeepAlive = uint16(s.KeepAlive / time.Second)
	err := o.Properties.Set(wire.ForConnect, "receive-maximum", strconv.Itoa(s.ReceiveMaximum))
	if err != nil {
		return nil, err
	}
	return pipeline.ConnectSource(ctx, s, p.url, o)
}

func (p *patient) receive(m *client.Received) error {
	switch string(m.Topic) {
	case p.topic:
		p.held.Add(1)
		p.last.Store(time.Now().UnixNano())
	case droppedTopic:
		select {
		case p.drops <- string(m.Payload):
		default:
		}
	}
	return nil
}

// subscriptions asks for the filters on a connection of its own, so that their
// messages do not take part in what follows.
func (p *patient) subscriptions(ctx context.Context) {
	c, err := p.connect(ctx, p.conn.Version(), client.Options{Receive: p.receive, Hold: true})
	if err != nil {
		p.failed(p.part, "subscription", "", err)
		return
	}
	defer p.leave(ctx, c)
	for _, f := range p.source.Subscribe {
		if p.source.Share != "" {
			f = "$share/" + p.source.Share + "-doctor/" + f // a group of its own takes nothing away
		}
		filter := client.Filter{Topic: f, QoS: byte(p.source.QoS)}
		answers, err := c.Subscribe(ctx, []client.Filter{filter}, nil)
		if err == nil {
			err = client.Refused(filter, answers[0])
		}
		switch {
		case err != nil:
			p.failed(p.part, "subscription", "allow the filter in the broker's access rules", err)
		case answers[0].Code < byte(p.source.QoS):
			p.add(p.part, "subscription", Warn, "QoS 0 is lost when anything fails; let the broker grant more",
				"filter %s: QoS %d granted, %d asked", f, answers[0].Code, p.source.QoS)
		default:
			p.add(p.part, "subscription", OK, "", "filter %s: QoS %d granted", f, answers[0].Code)
		}
	}
}

// droppedTopic is where Mosquitto counts what it has dropped.
const droppedTopic = "$SYS/broker/publish/messages/dropped"

// dropped says how many messages the broker has dropped: what the running service
// has been told, or else what the broker answers now.
func (p *patient) dropped(ctx context.Context) {
	const check = "broker drops"
	n, by := p.toldService(ctx), "the running service was told"
	if n == "" || n == "0" {
		n, by = p.toldNow(ctx), "the broker says"
	}
	switch n {
	case "":
		p.add(p.part, check, OK, "", "the broker does not tell")
	case "0":
		p.add(p.part, check, OK, "", "none since the broker started")
	default:
		p.add(p.part, check, Warn, hintDrops, "%s messages since the broker started, %s", n, by)
	}
}

const hintDrops = "let the broker queue more (Mosquitto: max_queued_messages 0 and max_queued_bytes)"

// toldNow asks the broker; "" if it does not tell.
func (p *patient) toldNow(ctx context.Context) string {
	answers, err := p.conn.Subscribe(ctx, []client.Filter{{Topic: droppedTopic}}, nil)
	if err != nil || answers[0].Code >= 0x80 {
		return ""
	}
	select {
	case n := <-p.drops:
		return n
	case <-time.After(quietTime):
	case <-ctx.Done():
	}
	return ""
}

// toldService asks the service for its metric; "" if none answers.
func (p *patient) toldService(ctx context.Context) string {
	for _, m := range p.service(ctx).families["mqttetl_broker_dropped_messages"].GetMetric() {
		if len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == p.source.Name {
			return strconv.FormatFloat(m.GetGauge().GetValue(), 'f', -1, 64)
		}
	}
	return ""
}
