package forward

import (
	"context"
	"encoding/json"
	"time"
)

// takenTimeout bounds the question which stream takes a subject.
const takenTimeout = 2 * time.Second

// TakenBy returns the name of a JetStream stream that takes subjects below
// cfg.SubjectPrefix, "" where there is none, JetStream is off, or the login may
// not ask. It has a connection of its own: a question that is not permitted is
// an error of the connection. cfg.Stream does not matter. An error is one of
// connecting.
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
	question, err := json.Marshal(map[string]string{"subject": cfg.SubjectPrefix + ".>"})
	if err != nil {
		return "", err
	}
	m, err := c.RequestWithContext(asking, "$JS.API.STREAM.NAMES", question)
	if err != nil {
		return "", ctx.Err()
	}
	var answer struct {
		Streams []string `json:"streams"`
	}
	if json.Unmarshal(m.Data, &answer) != nil || len(answer.Streams) == 0 {
		return "", nil // an error of JetStream is no stream either
	}
	return answer.Streams[0], nil
}
