package importer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// errNoTopic: a line does not say under which topic.
var errNoTopic = errors.New("no topic")

// checkTopic refuses what MQTT has no message under (MQTT 5 §4.7). Some brokers
// deliver topics that are not UTF-8, and the archive keeps them: in the forms
// that export has for them they come back.
func checkTopic(topic []byte, exported bool) error {
	switch {
	case len(topic) == 0:
		return errNoTopic
	case len(topic) > math.MaxUint16:
		return fmt.Errorf("a topic of %d bytes, MQTT has %d", len(topic), math.MaxUint16)
	}
	if bytes.ContainsAny(topic, "+#\x00") {
		return fmt.Errorf("topic %.100q holds a wildcard or NUL", topic)
	}
	if !exported && !utf8.Valid(topic) {
		return fmt.Errorf("topic %.100q is not UTF-8: iconv -f LATIN1 -t UTF-8 FILE | mqttetl import -, if that is what the file is in", topic)
	}
	return nil
}

// maxPayload is what fits in a PUBLISH packet.
const maxPayload = 256<<20 - 1

// qosWords are those of MQTT (MQTT 5 §4.3), as HiveMQ's tools write them.
var qosWords = []string{"AT_MOST_ONCE", "AT_LEAST_ONCE", "EXACTLY_ONCE"}

// parseQoS reads 0, 1 or 2, also as a program writes it that has made it 1.0.
func parseQoS(s string) (int, error) {
	s = strings.TrimSuffix(s, ".0")
	if q := slices.Index(qosWords, s); q >= 0 {
		return q, nil
	}
	if len(s) != 1 || s[0] < '0' || s[0] > '2' {
		return 0, fmt.Errorf("qos %.20q: must be 0, 1 or 2", s)
	}
	return int(s[0] - '0'), nil
}

// parseBit reads a flag, as C, JSON, Python or PostgreSQL write it.
func parseBit(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "0", "false", "f", "no", "0.0", "":
		return false, nil
	case "1", "true", "t", "yes", "1.0":
		return true, nil
	}
	return false, fmt.Errorf("%.20q where 0 or 1 is expected", s)
}
