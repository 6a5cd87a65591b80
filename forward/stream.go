package forward

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// apiTimeout bounds one request to JetStream.
const apiTimeout = 5 * time.Second

// stream returns the stream's state, after creating it where it is absent.
func (f *Forwarder) stream(ctx context.Context, c *conn) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	defer c.net.Expect(ctx, 2*dial.MaxAnswer)()
	js, err := jetstream.New(c.Conn)
	if err != nil {
		return nil, unavailable("use JetStream", err)
	}
	s, err := js.Stream(ctx, f.cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name:     f.cfg.Stream,
			Subjects: []string{f.cfg.SubjectPrefix + ".>"},
			Storage:  jetstream.FileStorage,
		})
		if err == nil {
			f.log.Info("stream created", "stream", f.cfg.Stream, "subjects", f.cfg.SubjectPrefix+".>", "storage", "file")
		}
	}
	if err != nil {
		return nil, f.noStream(err)
	}
	info := s.CachedInfo()
	return info, f.checkStreamConfig(&info.Config)
}

// ErrConfigured: the stream is, or another one that takes its subjects, not
// configured for the records. It does not pass until somebody changes that.
var ErrConfigured = errors.New("not configured for it")

// misconfigured is ErrConfigured with a text of its own.
type misconfigured struct{ error }

func (m misconfigured) Unwrap() []error { return []error{m.error, ErrConfigured} }

// subjectOverlap is the refusal of a stream whose subjects another one takes.
const subjectOverlap = 10065

// noStream says why the stream could be neither found nor created.
func (f *Forwarder) noStream(err error) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return unavailable("stream "+f.cfg.Stream, err)
	}
	err = unavailable("stream "+f.cfg.Stream, &apiError{Code: int(api.ErrorCode), Description: api.Description})
	if api.ErrorCode != subjectOverlap {
		return err
	}
	return mqttetl.WithHint(misconfigured{err}, fmt.Sprintf(
		"another stream takes subjects of %s.>: name that one as nats.stream, or set another nats.subject_prefix", f.cfg.SubjectPrefix))
}

// checkStreamConfig refuses a stream that cannot take every subject or never answers.
func (f *Forwarder) checkStreamConfig(sc *jetstream.StreamConfig) error {
	subjects := sc.Subjects
	if len(subjects) == 0 && sc.Mirror == nil {
		subjects = []string{sc.Name}
	}
	for _, s := range subjects {
		if !covers(s, f.cfg.SubjectPrefix) {
			continue
		}
		if sc.NoAck {
			return mqttetl.WithHint(misconfigured{unavailable("stream "+sc.Name, errors.New("it is configured not to acknowledge"))},
				"create the stream without no_ack, or name another one")
		}
		return nil
	}
	return mqttetl.WithHint(
		misconfigured{unavailable("stream "+sc.Name, fmt.Errorf("its subjects %q do not cover %s.>", subjects, f.cfg.SubjectPrefix))},
		cut(fmt.Sprintf("nats stream edit %s --subjects '%s'", sc.Name, strings.Join(append(subjects, f.cfg.SubjectPrefix+".>"), ","))))
}

// covers says whether every subject below prefix matches the pattern.
func covers(pattern, prefix string) bool {
	p, tokens := strings.Split(pattern, "."), strings.Split(prefix, ".")
	if p[len(p)-1] != ">" || len(p)-1 > len(tokens) {
		return false
	}
	for i, t := range p[:len(p)-1] {
		if t != "*" && t != tokens[i] {
			return false
		}
	}
	return true
}

// mayReplicate says whether the stream has several replicas or may get them while
// messages are under way. A server that stands alone has no cluster's name. Tests
// replace it.
var mayReplicate = func(info *jetstream.StreamInfo) bool {
	return info.Cluster != nil && info.Cluster.Name != ""
}

// durability says in words what an acknowledgement of the stream is worth.
func durability(sc *jetstream.StreamConfig) (text string, weak bool) {
	switch {
	case sc.Storage == jetstream.MemoryStorage:
		return fmt.Sprintf("acknowledged by %d replica(s) in memory: a restart of the server loses what it confirmed", sc.Replicas), true
	case sc.Replicas > 1:
		return fmt.Sprintf("acknowledged by a majority of %d replicas, file storage; "+
			"a power cut of a majority at once can lose what they confirmed within their sync_interval (2m unless set)", sc.Replicas), false
	}
	return "acknowledged by 1 replica, file storage; the server syncs its files every sync_interval (2m unless set, not visible to clients): " +
		"it keeps what it confirmed when it is killed, a power cut can lose it; set sync_interval: always or use 3 replicas", false
}

// limits are what a message may not exceed on this connection and stream, in bytes.
type limits struct {
	payload int64 // the server's max_payload: header and body
	message int64 // the stream's max_msg_size: header and body; -1 for none
	stream  int64 // the stream's max_bytes; -1 for none
}

// maxHeader is fixed in the server (error 10097).
const maxHeader = 1<<16 - 1

// recordOverhead is what the server's file store adds to a message.
const recordOverhead = 34

func limitsOf(c *conn, sc *jetstream.StreamConfig) limits {
	l := limits{payload: c.MaxPayload(), message: int64(sc.MaxMsgSize), stream: sc.MaxBytes}
	if l.message <= 0 {
		l.message = -1
	}
	if l.stream <= 0 {
		l.stream = -1
	}
	return l
}

// exceeded returns why the message can never be taken, "" if it can.
func (l limits) exceeded(m *natsmsg.Message) string {
	size := int64(m.Size())
	switch {
	case len(m.Header) > maxHeader:
		return fmt.Sprintf("headers of %d bytes exceed the %d that NATS takes", len(m.Header), maxHeader)
	case size > l.payload:
		return fmt.Sprintf("message of %d bytes exceeds the server's max_payload of %d", size, l.payload)
	case l.message >= 0 && size > l.message:
		return fmt.Sprintf("message of %d bytes exceeds the stream's max_msg_size of %d", size, l.message)
	case l.stream >= 0 && size+int64(len(m.Subject))+recordOverhead > l.stream:
		return fmt.Sprintf("message of %d bytes exceeds the stream's max_bytes of %d", size, l.stream)
	}
	return ""
}

// large says whether the record may exceed a limit, or is so large that it
// should not wait behind unmarked messages. It errs on the side of true.
func (l limits) large(r *mqttetl.Record) bool {
	const fixed, plenty = 768, 32 << 10
	limit := min(l.payload, plenty)
	if l.message >= 0 {
		limit = min(limit, l.message)
	}
	if l.stream >= 0 {
		limit = min(limit, l.stream)
	}
	// An escaped byte takes three. A topic may stand in subject and header.
	escaped := 3 * (2*len(r.Topic) + len(r.Properties) + len(r.Source))
	return int64(fixed+escaped+len(r.Payload)) > limit
}
