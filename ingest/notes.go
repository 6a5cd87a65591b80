package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// noteName is the name of a note about one thing of one broker. Names in the
// log are short, client ids and hosts need not be.
func noteName(kind, of string) string {
	sum := sha256.Sum256([]byte(of))
	return kind + " " + hex.EncodeToString(sum[:16])
}

// recallDropped tells the watch of the source what the broker's count was when
// it was last seen, also by an earlier process.
func (c *conn) recallDropped() error {
	if !c.link.watches.Load() && !c.link.dropped.wanted {
		return nil
	}
	note, err := c.link.log.Note(noteName("dropped", c.link.url.Host))
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(string(note), 10, 64); err == nil {
		c.link.dropped.recall(n)
	}
	return nil
}

// observeDropped takes a payload of droppedTopic and notes the count.
func (c *conn) observeDropped(payload []byte) {
	if c.link.dropped.observe(payload) {
		c.data.Note(noteName("dropped", c.link.url.Host), bytes.Clone(payload))
	}
}
