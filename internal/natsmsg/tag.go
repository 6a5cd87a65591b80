package natsmsg

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"

	"github.com/mqttetl/mqttetl"
)

// KeySize is the length in bytes of the key of a Tagger.
const KeySize = 16

// Tagger makes the values of Mqtt-Tag: the record's number and the place in the
// stream for which it is sent, enciphered with the log's key. Who does not have
// the key cannot make one, and a copy of a message is at another place. One
// block of AES, truncated to 64 bits, is a MAC of a message that fits into it,
// for a tenth of the price of HMAC.
type Tagger struct {
	block   cipher.Block
	in, out [aes.BlockSize]byte
}

// NewTagger returns nil where there is no key: nothing is proven then.
func NewTagger(key []byte) *Tagger {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	return &Tagger{block: block}
}

// Append adds the tag of a record that is to be the stream's message number at,
// after the later record late.
func (t *Tagger) Append(dst []byte, seq mqttetl.Seq, at uint64, late mqttetl.Seq) []byte {
	binary.BigEndian.PutUint64(t.in[:8], uint64(seq))
	binary.BigEndian.PutUint64(t.in[8:], at)
	t.block.Encrypt(t.out[:], t.in[:])
	if late != 0 {
		binary.BigEndian.PutUint64(t.out[8:], binary.BigEndian.Uint64(t.out[8:])^uint64(late))
		t.block.Encrypt(t.out[:], t.out[:])
	}
	return hex.AppendEncode(dst, t.out[:8])
}

// Fits says whether a message that claims to be the record, at that place of the
// stream, has the tag that belongs there.
func (t *Tagger) Fits(p *Place, seq mqttetl.Seq, at uint64) bool {
	return t != nil && p.Tag != "" && p.Tag == string(t.Append(nil, seq, at, p.Late))
}
