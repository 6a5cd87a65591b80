package forward

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/internal/dial"
)

// takenTimeout bounds the question which stream takes a subject.
const takenTimeout = 2 * time.Second

// TakenBy returns the name of a JetStream stream that takes subjects below
// cfg.SubjectPrefix, "" where there is none, JetStream is off, or the login may
// not ask. It has a connection of its own: a question that is not permitted is
// an error of the connection. cfg.Stream does not matter. An error is one of
// connecting, or of a JetStream that does not answer for the moment.
func TakenBy(ctx context.Context, cfg Config) (stream string, err error) {
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c, err := cfg.connect(ctx, stop) // not permitted: ends asking
	if err != nil {
		return "", err
	}
	defer c.close()
	asking, cancel := context.WithTimeout(asking, takenTimeout)
	defer cancel()
	defer c.net.Expect(asking, dial.MaxAnswer)()
	question, err := json.Marshal(map[string]string{"subject": cfg.SubjectPrefix + ".>"})
	if err != nil {
		return "", err
	}
	what := "ask which stream takes " + cfg.SubjectPrefix + ".>"
	m, err := c.RequestWithContext(asking, "$JS.API.STREAM.NAMES", question)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, nats.ErrNoResponders), errors.Is(context.Cause(asking), nats.ErrPermissionViolation):
		return "", nil
	default:
		return "", unavailable(what, context.Cause(asking))
	}
	var answer struct {
		Streams []string            `json:"streams"`
		Error   *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return "", unavailable(what, err)
	}
	if e := answer.Error; e != nil && (e.ErrorCode == jetstream.JSErrCodeJetStreamNotEnabled || e.ErrorCode == jetstream.JSErrCodeJetStreamNotEnabledForAccount) {
		return "", nil
	} else if e != nil {
		return "", unavailable(what, e)
	}
	if len(answer.Streams) == 0 {
		return "", nil
	}
	return answer.Streams[0], nil
}
