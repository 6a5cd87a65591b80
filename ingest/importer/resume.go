package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mqttetl/mqttetl"
)

// position is how far a file has been read, as the log keeps it.
type position struct {
	Offset, Lines, Imported, Rejected int64
	RejectedBytes                     int64  // length of the file of rejected lines
	HeadBytes                         int    // so many bytes of the beginning
	Head                              string // have this fingerprint: the file may have grown since
	Done                              bool
	Sum                               uint32  // CRC-32C of the Offset bytes
	RejectedFile                      string  // "" if it was this file's own
	Open                              openEnd `json:",omitempty"`
	Clock                             int64   `json:",omitempty"` // the last time that named no zone, as an instant
	Trend                             int     `json:",omitempty"` // of these times
}

// openEnd is what the last line lacked that was read, at the end of the file.
type openEnd int

const (
	openLine        openEnd = 1 + iota // its line end
	openField                          // the closing quote of a CSV field
	openPayload                        // nothing, but its payload may go on in a line that follows
	openPayloadLine                    // its line end, and its payload may go on
)

// ErrChanged: the file is another than the one of which the log keeps how far it
// was read.
var ErrChanged = errors.New("the file has changed since it was imported")

func changed(how string) error {
	return mqttetl.WithHint(fmt.Errorf("%w: %s", ErrChanged, how),
		"without --resume it is imported from its beginning, also the lines that are in the log already")
}

// note is the name under which the log keeps the position.
func (m *Importer) note() string { return "import " + m.cfg.Name }

// fingerprint is what a file is known by beside its name.
func fingerprint(head []byte) string {
	sum := sha256.Sum256(head)
	return hex.EncodeToString(sum[:8])
}

// recall looks up in the log what an earlier import has read, and goes on there
// if that is asked for.
func (m *Importer) recall(head []byte) error {
	note, err := m.log.Note(m.note())
	if err != nil || note == nil {
		return err
	}
	var at position
	err = json.Unmarshal(note, &at)
	if !m.cfg.Resume {
		m.again = at // of a note that is damaged --resume tells
		return nil
	}
	if err != nil {
		return fmt.Errorf("the position in the log: %w: %w", mqttetl.ErrDamaged, err)
	}
	return m.resume(head, at)
}

// resume goes to where the log says that the file has been read.
func (m *Importer) resume(head []byte, at position) error {
	if at.HeadBytes > len(head) || fingerprint(head[:at.HeadBytes]) != at.Head {
		return changed("it begins differently")
	}
	if at.Offset == 0 { // nothing has been read
		at.Lines, at.Offset, at.Sum = m.at.Lines, m.at.Offset, m.at.Sum
	} else if err := m.lines.skip(at, m.beginning()); err != nil {
		return err
	}
	m.known, m.at = true, at
	m.clock.last, m.clock.trend = at.Clock, at.Trend
	m.stats.Before, m.stats.Done = at.Lines, at.Done
	return nil
}
