package importer

import (
	"fmt"
	"time"

	"github.com/mqttetl/mqttetl"
)

// entry is one message as a line has it.
type entry struct {
	mqttetl.Message
	time   int64  // Unix nanoseconds
	timed  bool   // the line says when
	wall   bool   // without a zone
	source string // "" if the line does not say
}

// A parser reads one message, which may be several lines. What it returns may
// point into them.
type parser func(line []byte) (entry, error)

// reader is what parsers of all kinds need to know.
type reader struct {
	columns columns
	times   timeFormat     // nil: the forms that are known
	zone    *time.Location // of times that name none; nil: UTC
	topic   []byte         // of lines without one
	seen    []string       // the names of columns that JSON has had
	made    []byte         // memory for what a line has in another form
}

// check refuses what could not have come from a broker. exported says that a
// topic that is not UTF-8 stands as export writes it.
func (r *reader) check(e *entry, exported bool) error {
	if len(e.Payload) > maxPayload {
		return fmt.Errorf("a payload of %d bytes, MQTT has %d", len(e.Payload), maxPayload)
	}
	if len(e.Topic) == 0 {
		e.Topic = r.topic
	}
	return checkTopic(e.Topic, exported)
}

// setFlag sets qos, retain or dup; what is given twice counts as given last.
func (e *entry) setFlag(name, value string) error {
	if name == "qos" {
		q, err := parseQoS(value)
		e.Flags = e.Flags&^qosFlags | mqttetl.Flags(q)
		return err
	}
	on, err := parseBit(value)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	flag := mqttetl.FlagDup
	if name == "retain" {
		flag = mqttetl.FlagRetain
	}
	if e.Flags &^= flag; on {
		e.Flags |= flag
	}
	return nil
}

// qosFlags are the bits of the QoS.
const qosFlags = mqttetl.Flags(3)
