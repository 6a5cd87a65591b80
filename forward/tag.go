package forward

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// KeySize is the length of Config.Key in bytes.
const KeySize = 16

// tagger makes the values of Mqtt-Tag: the record's number and the place in the
// stream for which it is sent, enciphered with the log's key. Who does not have
// the key cannot make one, and a copy of a message stands at another place. One
// block of AES, truncated to 64 bits, is a MAC of a message that fits into it,
// for a tenth of the price of HMAC.
type tagger struct {
	block   cipher.Block
	in, out [aes.BlockSize]byte
}

// newTagger returns nil where there is no key: nothing is proven then.
func newTagger(key []byte) *tagger {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	return &tagger{block: block}
}

// append adds the tag of a record that is to be the stream's message number at,
// after the later record late.
func (t *tagger) append(dst []byte, seq mqttetl.Seq, at uint64, late mqttetl.Seq) []byte {
	binary.BigEndian.PutUint64(t.in[:8], uint64(seq))
	binary.BigEndian.PutUint64(t.in[8:], at)
	t.block.Encrypt(t.out[:], t.in[:])
	if late != 0 {
		binary.BigEndian.PutUint64(t.out[8:], binary.BigEndian.Uint64(t.out[8:])^uint64(late))
		t.block.Encrypt(t.out[:], t.out[:])
	}
	return hex.AppendEncode(dst, t.out[:8])
}

// fits says whether the message at that place of the stream has the tag that
// belongs there.
func (t *tagger) fits(m *found, seq mqttetl.Seq, at uint64) bool {
	return t != nil && m.tag != "" && m.tag == string(t.append(nil, seq, at, m.late))
}

// seed makes sums that nobody outside of this process can aim at.
var seed = maphash.MakeSeed()

// sum stands for all of the message that is the record's own: body, header and
// subject, without what says where in the stream it is to be. The order of the
// header's lines does not matter, nats.go sorts them.
func (m *wireMessage) sum() uint64 { return m.object() + maphash.String(seed, m.subject)*3 }

// object is the same without the subject, which a stream may transform.
func (m *wireMessage) object() uint64 {
	sum := maphash.Bytes(seed, m.body)
	for name, value := range m.fields() {
		switch name {
		case headerMsgID, headerLastID, headerLastSeq, HeaderLate, HeaderTag:
		default:
			sum += sumLine(name, value)
		}
	}
	return sum
}

func sumLine(name, value string) uint64 {
	return maphash.String(seed, name)*5 ^ maphash.String(seed, value)
}

// readFound reads of a message of the stream what tells whose it is.
func readFound(m *wireMessage) found {
	f := found{there: true, bytes: m.size()}
	if !strings.HasPrefix(m.header, headerLine) {
		return f // no sum: it is nothing of ours
	}
	for name, value := range m.fields() {
		switch name {
		case headerMsgID:
			f.id = strings.Clone(value)
		case HeaderTag:
			f.tag = strings.Clone(value)
		case HeaderLate:
			late, _ := parseSeq(value)
			f.late = late
		}
	}
	f.sum, f.object = m.sum(), m.object()
	return f
}
