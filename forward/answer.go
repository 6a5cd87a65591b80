package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/nats-io/nats.go"
)

// answer is what came back for a message that asked for it.
type answer struct {
	Stream    string    `json:"stream"`
	Seq       uint64    `json:"seq"`
	Duplicate bool      `json:"duplicate"`
	Error     *apiError `json:"error"`
}

// apiError is an error of JetStream (its errors.json): Code 10071, "wrong last
// sequence: 12".
type apiError struct {
	Code        int    `json:"err_code"`
	Description string `json:"description"`
}

func (r *apiError) Error() string {
	return fmt.Sprintf("JetStream refused: %s (%d)", r.Description, r.Code)
}

// errNoStream: nobody answers for the subject. The stream is gone, its
// subjects have changed, or JetStream is off or has no leader.
var errNoStream = errors.New("no stream takes the subject")

// plainAck returns the number in a PubAck of the stream that says nothing else, and
// 0 for every other answer. A server that stands alone writes {"stream":"S", "seq":7},
// one of a cluster {"stream":"S","seq":7}. It spares the JSON decoder's allocations,
// which are half of what the client costs where each message asks for an acknowledgement.
func plainAck(data []byte, stream string) uint64 {
	rest, a := strings.CutPrefix(unsafe.String(unsafe.SliceData(data), len(data)), `{"stream":"`)
	rest, b := strings.CutPrefix(rest, stream)
	rest, c := strings.CutPrefix(rest, `",`)
	rest, d := strings.CutPrefix(strings.TrimPrefix(rest, " "), `"seq":`)
	digits, e := strings.CutSuffix(rest, "}")
	if !a || !b || !c || !d || !e {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// parseAnswer reads a PubAck, a refusal, or the server's "no responders".
func parseAnswer(m *nats.Msg) (answer, error) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return answer{}, errNoStream
	}
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return a, fmt.Errorf("read acknowledgement %.100q: %w", m.Data, err)
	}
	if a.Error != nil {
		return a, a.Error
	}
	if a.Stream == "" || a.Seq == 0 {
		return a, fmt.Errorf("read acknowledgement %.100q: no stream or sequence number", m.Data)
	}
	return a, nil
}

// A verdict is what a refusal means for the record it answers.
type verdict int

const (
	// retry: it concerns the server or the stream. The same record is tried
	// again, for ever.
	retry verdict = iota
	// chain: the stream does not end where we thought. Nothing is wrong with
	// the record; where to go on is read from the stream again.
	chain
	// bury: it concerns this record and would be the same at every attempt,
	// while others pass. It becomes a dead letter.
	bury
)

// The refusals that are not simply tried again. What is not listed, be it new,
// is retry: waiting is loud and loses nothing.
var verdicts = map[int]struct {
	verdict verdict
	why     string
}{
	10070: {chain, "wrong last message id"},
	10071: {chain, "wrong last sequence: a message before this one is missing, or more than we know of has landed"},
	10164: {chain, "wrong last sequence, as a cluster says it"},
	10054: {bury, "larger than the stream's max_msg_size; normally seen before it is sent"},
	10097: {bury, "headers over 64 KiB; normally seen before it is sent"},
	10165: {bury, "a header of the message itself: TTL"},
	10166: {bury, "a header of the message itself: TTL"},
	10168: {bury, "a header of the message itself: counter"},
	10171: {bury, "a header of the message itself: counter"},
	10188: {bury, "a header of the message itself: schedule"},
	10189: {bury, "a header of the message itself: schedule"},
	10227: {bury, "a header of the message itself: stream source"},
}

// storeFailed is the code of a message that the store did not take; what it
// means stands in the description only.
const storeFailed = 10077

// judge decides what err, got for a record that was alone in flight, means.
func judge(err error) verdict {
	var r *apiError
	switch {
	case errors.As(err, &r) && r.Code == storeFailed:
		return judgeStore(r.Description)
	case errors.As(err, &r):
		return verdicts[r.Code].verdict
	case errors.Is(err, errSkipped):
		return chain
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrBadHeaderMsg):
		return bury
	case err != nil && strings.Contains(strings.ToLower(err.Error()), "maximum payload violation"):
		return bury // the account allows less than the server has said; it closes the connection
	}
	return retry
}

// judgeStore tells the two reasons that concern one record from a full stream
// or disk ("maximum bytes exceeded", "maximum messages exceeded", I/O errors),
// which pass.
func judgeStore(description string) verdict {
	switch description {
	case "message to large", // sic, before 2.10
		"message too large",
		"maximum messages per subject exceeded":
		return bury
	}
	return retry
}
