package servers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// StoredMessage is a message as one server has it on its own disk.
type StoredMessage struct {
	Seq     uint64 // in the stream
	Time    int64
	Subject string
	Header  string // as on the wire
	Body    string
}

// The store's files hold one record a message, as server/filestore.go writes them:
// length (4 bytes, its highest bit: has a header), sequence (8, its highest bits:
// erased, or tells of an erased one), time (8), length of the subject (2), subject,
// length of the header (4) and header, body, checksum (8); little endian.
const (
	recordHead   = 22
	recordSum    = 8
	headerBit    = 1 << 31
	erasedBit    = 1 << 63
	tombstoneBit = 1 << 62
)

// Stored reads the messages of a stream from the server's files, in their order;
// none where there is no such stream. A record that is being written is left out.
func (n *NATSNode) Stored(stream string) ([]StoredMessage, error) {
	files, err := filepath.Glob(filepath.Join(n.store(), "jetstream", "$G", "streams", stream, "msgs", "*.blk"))
	if err != nil {
		return nil, err
	}
	found := map[uint64]StoredMessage{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // emptied and deleted meanwhile
			return nil, fmt.Errorf("read the store of server %s: %w", n.Name, err)
		}
		readBlock(b, found)
	}
	all := make([]StoredMessage, 0, len(found))
	for _, m := range found {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b StoredMessage) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return all, nil
}

// readBlock adds the messages of one file to found.
func readBlock(b []byte, found map[uint64]StoredMessage) {
	le := binary.LittleEndian
	for len(b) >= recordHead+recordSum {
		length := le.Uint32(b)
		size := int(length &^ headerBit)
		if size < recordHead+recordSum || size > len(b) {
			return
		}
		m := StoredMessage{Seq: le.Uint64(b[4:]), Time: int64(le.Uint64(b[12:]))}
		data := b[recordHead : size-recordSum]
		subject := int(le.Uint16(b[20:]))
		b = b[size:]
		if m.Seq&(erasedBit|tombstoneBit) != 0 {
			delete(found, m.Seq&^(erasedBit|tombstoneBit))
			continue
		}
		m.Subject, data = string(data[:subject]), data[subject:]
		if length&headerBit != 0 {
			header := int(le.Uint32(data))
			m.Header, data = string(data[4:4+header]), data[4+header:]
		}
		m.Body = string(data)
		found[m.Seq] = m
	}
}

// Equal waits until every server has the same messages of a stream on its disk,
// and returns them. The error says how they differ when ctx has ended.
func (c *NATSCluster) Equal(ctx context.Context, stream string) ([]StoredMessage, error) {
	poll := time.NewTicker(250 * time.Millisecond)
	defer poll.Stop()
	for {
		all, err := c.equal(stream)
		if err == nil {
			return all, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-poll.C:
		}
	}
}

func (c *NATSCluster) equal(stream string) (first []StoredMessage, err error) {
	for i, n := range c.Nodes {
		all, err := n.Stored(stream)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first = all
		}
		for k := range min(len(first), len(all)) {
			if first[k] != all[k] {
				return nil, fmt.Errorf("servers %s and %s differ in message %d: %.200q, %.200q", c.Nodes[0].Name, n.Name, first[k].Seq, fmt.Sprint(first[k]), fmt.Sprint(all[k]))
			}
		}
		if len(all) != len(first) {
			return nil, fmt.Errorf("servers %s and %s have %d and %d messages", c.Nodes[0].Name, n.Name, len(first), len(all))
		}
	}
	return first, nil
}
