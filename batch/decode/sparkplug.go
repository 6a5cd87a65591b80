package decode

import (
	"errors"
	"fmt"
	"strings"
)

func init() { formats["sparkplug_b"] = newSparkplug }

// newSparkplug decodes Sparkplug 3.0, an object a metric, with all of these:
//
//	group, node, device  as the topic has them, device null for a node's own metrics
//	message              NBIRTH, NDATA, NDEATH, NCMD, DBIRTH, DDATA, DDEATH, DCMD, STATE
//	metric, type         name and data type, from the birth certificate if need be
//	value                a DataSet is {columns, types, rows}, a Template {template_ref, version,
//	                     is_definition, metrics: {name: value}, parameters: {name: value}}
//	timestamp            ms since 1970, of the metric or else of the payload, or null
//	is_null, is_historical, is_transient
//	properties           {key: value} or null
//
// STATE has the host's id in host, and one metric: online. A message without
// metrics, as a DDEATH is, gives no object. A metric that cannot be read, or
// whose alias nobody has declared, is Failed; the others are not concerned.
func newSparkplug(o Options) (Decoder, error) {
	d := &sparkplug{births: o.Births, retry: o.Retry, depth: o.MaxDepth, max: o.MaxBytes, late: o.Late}
	if d.births == nil {
		d.births = newMemory()
	}
	return d, nil
}

type sparkplug struct {
	births Births
	retry  bool
	depth  int
	max    int // bytes of a payload once it is inflated
	late   func() bool

	inflater Inflater
	left     budget // of the payload at hand
}

// UnbornError says that metrics cannot be named because no birth certificate
// declares them. The edge node sends one when it is asked to.
type UnbornError struct {
	Group, Node string
	Text        string
}

func (e *UnbornError) Error() string { return e.Text }

func (t sparkplugTopic) unborn(format string, a ...any) error {
	return &UnbornError{t.group, t.node, fmt.Sprintf(format, a...)}
}

// sparkplugTopic is spBv1.0/group/message/node[/device].
type sparkplugTopic struct {
	group, message, node, device string
}

func parseTopic(topic string) (sparkplugTopic, error) {
	l := strings.Split(topic, "/")
	if l[0] == "spBv1.0" && (len(l) == 4 || len(l) == 5) {
		t := sparkplugTopic{group: l[1], message: l[2], node: l[3]}
		if len(l) == 5 {
			t.device = l[4]
		}
		switch t.message {
		case "NBIRTH", "NDATA", "NDEATH", "NCMD":
			if len(l) == 4 {
				return t, nil
			}
		case "DBIRTH", "DDATA", "DDEATH", "DCMD":
			if len(l) == 5 {
				return t, nil
			}
		}
	}
	return sparkplugTopic{}, fmt.Errorf("topic %s is not of Sparkplug: spBv1.0/group/message/node[/device]", topic)
}

// nodeName and owner are names of Births.
func (t sparkplugTopic) nodeName() string { return t.group + "/" + t.node }

func (t sparkplugTopic) owner() string {
	if t.device == "" {
		return t.nodeName()
	}
	return t.nodeName() + "/" + t.device
}

// verb is the message without the letter for node or device.
func (t sparkplugTopic) verb() string { return t.message[1:] }

func (d *sparkplug) Decode(topic string, payload []byte, emit func(any) error) error {
	if host, ok := strings.CutPrefix(strings.TrimPrefix(topic, "spBv1.0/"), "STATE/"); ok {
		doc, err := decodeState(host, payload, d.depth)
		if err != nil {
			return err
		}
		return emit(doc)
	}
	t, err := parseTopic(topic)
	if err != nil {
		return err
	}
	p, b, err := d.message(t, payload)
	if err != nil {
		if t.verb() == "BIRTH" && !d.retry {
			err = errors.Join(err, d.forget(t))
		}
		return fmt.Errorf("%s of %s: %w", t.message, t.owner(), err)
	}
	for i := range p.metrics {
		if err := emit(d.document(t, p, i, b)); err != nil {
			return err
		}
	}
	return nil
}

// forget ends what a birth that cannot be read would have replaced: its aliases
// may mean something else from now on.
func (d *sparkplug) forget(t sparkplugTopic) error {
	if t.device != "" {
		return d.bury(t)
	}
	s, err := d.births.Node(t.nodeName())
	if err != nil || !s.Online {
		return err
	}
	s.Online = false
	return d.births.SetNode(t.nodeName(), s)
}

// message changes the memory and returns the metrics with the certificate that
// names them. A message that cannot be resolved still counts for seq.
func (d *sparkplug) message(t sparkplugTopic, payload []byte) (*wirePayload, *Birth, error) {
	p, err := d.parsePayload(payload)
	if err != nil {
		return nil, nil, fmt.Errorf("payload is not of Sparkplug B: %w", err)
	}
	s, err := d.births.Node(t.nodeName())
	if err != nil {
		return nil, nil, err
	}
	switch t.message {
	case "NBIRTH":
		b, err := d.nodeBirth(t, &p, s)
		return &p, b, err
	case "NDEATH":
		return &p, nil, d.nodeDeath(t, &p, s)
	case "NCMD", "DCMD":
	default:
		if !s.Online && !d.retry {
			return nil, nil, t.unborn("no NBIRTH of %s before it", t.nodeName())
		}
		if err := d.follow(t, &p, s); err != nil {
			return nil, nil, err
		}
	}
	if t.message == "DBIRTH" {
		b, err := d.deviceBirth(t, &p)
		return &p, b, err
	}
	b, err := d.births.Birth(t.owner())
	if err != nil {
		return nil, nil, err
	}
	if t.verb() == "DATA" && (b == nil || b.Dead && !d.retry) {
		return nil, nil, t.unborn("no %cBIRTH of %s before it", t.message[0], t.owner())
	}
	if t.message == "DDEATH" && !d.retry {
		err = d.bury(t)
	}
	return &p, b, err
}

// follow checks that seq is the next one of the node, and remembers it.
func (d *sparkplug) follow(t sparkplugTopic, p *wirePayload, s Node) error {
	if d.retry || p.seq == nil {
		return nil
	}
	if *p.seq != uint64(s.Seq+1) {
		s.Gaps++
	}
	s.Seq = uint8(*p.seq)
	return d.births.SetNode(t.nodeName(), s)
}

func (d *sparkplug) nodeBirth(t sparkplugTopic, p *wirePayload, s Node) (*Birth, error) {
	b, err := d.birth(p)
	if err != nil || d.retry {
		return b, err
	}
	s = Node{Online: true, Gaps: s.Gaps}
	if p.seq != nil {
		s.Seq = uint8(*p.seq)
	}
	s.BdSeq, _ = bdSeq(p)
	if err := d.births.ForgetDevices(t.nodeName()); err != nil {
		return nil, err
	}
	if err := d.births.SetNode(t.nodeName(), s); err != nil {
		return nil, err
	}
	return b, d.births.SetBirth(t.owner(), b)
}

func (d *sparkplug) deviceBirth(t sparkplugTopic, p *wirePayload) (*Birth, error) {
	b, err := d.birth(p)
	if err != nil || d.retry {
		return b, err
	}
	return b, d.births.SetBirth(t.owner(), b)
}

func (d *sparkplug) birth(p *wirePayload) (*Birth, error) {
	metrics, err := birthMetrics(p.metrics, d.depth, &d.left)
	return NewBirth(metrics), err
}

// nodeDeath ends a session, unless there is none or the NDEATH is that of an
// earlier one.
func (d *sparkplug) nodeDeath(t sparkplugTopic, p *wirePayload, s Node) error {
	if n, ok := bdSeq(p); d.retry || !s.Online || ok && n != s.BdSeq {
		return nil
	}
	s.Online = false
	return d.births.SetNode(t.nodeName(), s)
}

// bury ends the life of a device.
func (d *sparkplug) bury(t sparkplugTopic) error {
	b, err := d.births.Birth(t.owner())
	if err != nil || b == nil {
		return err
	}
	dead := *b
	dead.Dead = true
	return d.births.SetBirth(t.owner(), &dead)
}

// bdSeq returns the metric that ties NDEATH to NBIRTH.
func bdSeq(p *wirePayload) (uint64, bool) {
	for i := range p.metrics {
		m := &p.metrics[i]
		if m.name != nil && *m.name == "bdSeq" && (m.value.kind == intValue || m.value.kind == longValue) {
			return m.value.n, true
		}
	}
	return 0, false
}

// document returns a metric of a payload, its name and type from b, or Failed if
// it cannot be read. Each may take what the metrics on the wire have left.
func (d *sparkplug) document(t sparkplugTopic, p *wirePayload, i int, b *Birth) any {
	left := d.left
	doc, err := d.metric(t, p, i, b, &left)
	if err != nil {
		return Failed{fmt.Errorf("%s of %s: %w", t.message, t.owner(), err)}
	}
	return doc
}

func (d *sparkplug) metric(t sparkplugTopic, p *wirePayload, i int, b *Birth, left *budget) (any, error) {
	m := &p.metrics[i]
	born := b.find(m)
	name, datatype, err := m.identity(born)
	if err != nil {
		if m.alias != nil && m.err == nil && t.verb() == "DATA" {
			err = t.unborn("%v", err)
		}
		return nil, fmt.Errorf("metric %d: %w", i, err)
	}
	value, err := metricValue(m, datatype, born.members(), d.depth, left)
	if err != nil {
		return nil, fmt.Errorf("metric %s: %w", name, err)
	}
	var device, properties any
	if t.device != "" {
		device = t.device
	}
	if m.properties != nil {
		if properties, err = propertySet(m.properties, d.depth, left); err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
	}
	return map[string]any{
		"group": t.group, "node": t.node, "device": device, "message": t.message,
		"metric": name, "type": typeName(datatype), "value": value, "timestamp": when(m.timestamp, p.timestamp),
		"is_null": m.null, "is_historical": m.historical, "is_transient": m.transient, "properties": properties,
	}, nil
}

// find returns what a birth says of a metric, nil if nothing.
func (b *Birth) find(m *wireMetric) *BirthMetric {
	switch {
	case b == nil:
		return nil
	case m.name != nil:
		return b.Name(*m.name)
	case m.alias != nil:
		return b.Alias(*m.alias)
	}
	return nil
}

func when(times ...*uint64) any {
	for _, t := range times {
		if t != nil {
			return fromUint(*t)
		}
	}
	return nil
}

// decodeState reads the state of a host application: {"online": …, "timestamp": …}
// of version 3.0, ONLINE or OFFLINE of version 2.2.
func decodeState(host string, payload []byte, maxDepth int) (any, error) {
	doc := map[string]any{
		"group": nil, "node": nil, "device": nil, "message": "STATE", "host": host, "metric": "online", "type": "Boolean",
		"timestamp": nil, "is_null": false, "is_historical": false, "is_transient": false, "properties": nil,
	}
	switch string(payload) {
	case "ONLINE", "OFFLINE":
		doc["value"] = string(payload) == "ONLINE"
		return doc, nil
	}
	v, err := parseJSON(payload, maxDepth)
	if err != nil {
		return nil, fmt.Errorf("STATE of %s: %w", host, err)
	}
	state, _ := v.(map[string]any)
	online, ok := state["online"].(bool)
	if !ok {
		return nil, fmt.Errorf("STATE of %s: no boolean online in it", host)
	}
	doc["value"], doc["timestamp"] = online, state["timestamp"]
	return doc, nil
}
