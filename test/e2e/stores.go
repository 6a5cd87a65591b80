package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	_ "modernc.org/sqlite" // to read the archive independently of sink/archive
)

// Archived is one row of the archive.
type Archived struct {
	Seq     int64
	Topic   string
	Payload string
}

// ReadArchive reads the whole archive in the order of Seq.
func ReadArchive(path string) ([]Archived, error) { return ReadArchiveAfter(path, 0) }

// ReadArchiveAfter reads the rows after seq.
func ReadArchiveAfter(path string, seq int64) ([]Archived, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.Query(`SELECT m.seq, t.topic, m.payload FROM messages m JOIN topics t ON t.id = m.topic_id
		WHERE m.seq > ? ORDER BY m.seq`, seq)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Archived
	for rows.Next() {
		var a Archived
		var payload []byte
		if err := rows.Scan(&a.Seq, &a.Topic, &payload); err != nil {
			return nil, err
		}
		a.Payload = string(payload)
		all = append(all, a)
	}
	return all, rows.Err()
}

// Holds says whether the archive holds a message with that payload on that topic.
func Holds(path, topic, payload string) (bool, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return false, err
	}
	defer db.Close()
	var n int
	err = db.QueryRow(`SELECT count(*) FROM messages m JOIN topics t ON t.id = m.topic_id
		WHERE t.topic = ? AND CAST(m.payload AS TEXT) = ?`, topic, payload).Scan(&n)
	return n > 0, err
}

// Streamed is one message of the stream.
type Streamed struct {
	ID      string // Nats-Msg-Id
	Subject string
	Payload string
	Delay   time.Duration // from its receipt by mqttetl until the server had it
}

// ReadStream reads every message of a stream in its order.
func ReadStream(ctx context.Context, url, stream string) ([]Streamed, error) {
	return ReadStreamAfter(ctx, url, stream, 0)
}

// ReadStreamAfter reads all messages but the first n of a stream that has lost none.
func ReadStreamAfter(ctx context.Context, url, stream string, n int) ([]Streamed, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	want := s.CachedInfo().State.Msgs - min(s.CachedInfo().State.Msgs, uint64(n))
	if want == 0 {
		return nil, nil
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: uint64(n) + 1})
	if err != nil {
		return nil, err
	}
	it, err := c.Messages()
	if err != nil {
		return nil, err
	}
	defer it.Stop()
	all := make([]Streamed, 0, want)
	for uint64(len(all)) < want {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("read stream %s after %d of %d messages: %w", stream, len(all), want, err)
		}
		d, err := delay(m)
		if err != nil {
			return nil, fmt.Errorf("read stream %s after %d of %d messages: %w", stream, len(all), want, err)
		}
		all = append(all, Streamed{m.Headers().Get(jetstream.MsgIDHeader), m.Subject(), string(m.Data()), d})
	}
	return all, nil
}

// delay is 0 where a message does not say when it was received.
func delay(m jetstream.Msg) (time.Duration, error) {
	text := m.Headers().Get("Mqtt-Time")
	if text == "" {
		return 0, nil
	}
	received, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return 0, err
	}
	return meta.Timestamp.Sub(received), nil
}

// CheckNumbers checks that the rows are numbered from first without a hole.
func CheckNumbers(rows []Archived, first int64) error {
	for i, r := range rows {
		if r.Seq != first+int64(i) {
			return fmt.Errorf("row %d has seq %d, want %d", i, r.Seq, first+int64(i))
		}
	}
	return nil
}

// CheckSame checks that the stream holds the rows, in their order, each once.
// logID is the log's id, which the message ids begin with.
func CheckSame(rows []Archived, stream []Streamed) error {
	seen := make(map[string]bool, len(stream))
	for i, m := range stream {
		if seen[m.ID] {
			return fmt.Errorf("message %d of the stream: id %s a second time", i, m.ID)
		}
		seen[m.ID] = true
		if i >= len(rows) {
			continue
		}
		var seq int64
		var id string
		if n, err := fmt.Sscanf(m.ID, "%16s-%d", &id, &seq); n != 2 || err != nil {
			return fmt.Errorf("message %d of the stream: id %q", i, m.ID)
		}
		if seq != rows[i].Seq || m.Payload != rows[i].Payload {
			return fmt.Errorf("message %d of the stream is record %d %.40q, row %d is record %d %.40q", i, seq, m.Payload, i, rows[i].Seq, rows[i].Payload)
		}
	}
	if len(stream) != len(rows) {
		return fmt.Errorf("%d messages in the stream, %d rows", len(stream), len(rows))
	}
	return nil
}

// CheckAcknowledged checks that every acknowledged payload is in the archive
// on its topic. It returns how many rows are further deliveries of a payload
// that is there already.
func CheckAcknowledged(rows []Archived, acknowledged map[string]string) (repeated int, err error) {
	got := make(map[string]string, len(rows))
	for _, r := range rows {
		if _, ok := got[r.Payload]; ok {
			repeated++
		}
		got[r.Payload] = r.Topic
	}
	lost := 0
	example := ""
	for payload, topic := range acknowledged {
		if got[payload] != topic {
			lost++
			example = fmt.Sprintf("%.40s on %s, found on %q", payload, topic, got[payload])
		}
	}
	if lost > 0 {
		return repeated, fmt.Errorf("%d of %d acknowledged messages are lost, such as %s", lost, len(acknowledged), example)
	}
	return repeated, nil
}

// DeadLetters are the records that a stage has given up.
func DeadLetters(path, stage string) (map[int64]bool, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.Query(`SELECT seq FROM dead_letters WHERE stage = ?`, stage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	dead := map[int64]bool{}
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, err
		}
		dead[seq] = true
	}
	return dead, rows.Err()
}
