package forward

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

const (
	// lookBack is how many messages of other writers, or deleted ones, at the end
	// of the stream are passed over in search of the last one of ours.
	lookBack = 1 << 16
	// lookFresh is the same while none can be ours.
	lookFresh = 256
	// lookAtOnce is how many messages are asked for at a time, fewer if they are
	// large: all of them are in memory, bodies too.
	lookAtOnce = 32
	// readBack bounds what these have together, were each as large as the server allows.
	readBack = 32 << 20
)

// position is where the stream stands.
type position struct {
	last   uint64      // number of its last message, 0 if it never had one
	ours   mqttetl.Seq // every record of this log up to it is in the stream, as far as its end shows
	mine   bool        // there was one
	by     string      // what the last message is, where it is not ours
	shared bool        // there are messages of other writers among the last ones
	held   *held       // what the stream holds beyond ours; nil for nothing
	proven uint64      // number of our last message
	claims claims      // what has the ids of further records
}

// claims are messages that have the id of a record and are not proven to stand
// where we put them: by an earlier build, displaced, copied or forged. What
// they are shows when the record's turn comes: with its content it is the record.
type claims map[mqttetl.Seq][]uint64

// nobody is who wrote the last message of an empty stream.
const nobody = "nobody"

// held are records in the stream that stand before one that it lacks.
type held struct {
	last    mqttetl.Seq // the highest of them
	records map[mqttetl.Seq]bool
}

func (h *held) holds(seq mqttetl.Seq) bool { return h != nil && h.records[seq] }

// lateBehind returns the record after which seq stands in the stream although it
// is the earlier one, 0 if there is none.
func (h *held) lateBehind(seq mqttetl.Seq) mqttetl.Seq {
	if h == nil || seq > h.last {
		return 0
	}
	return h.last
}

// end finds the last record of this log in the stream and, where messages follow
// one another by number only, what has been displaced by those of other writers.
func (f *Forwarder) end(ctx context.Context, c *conn, info *jetstream.StreamInfo) (position, error) {
	st := &info.State
	if st.Msgs == 0 {
		return position{last: st.LastSeq, by: nobody}, nil
	}
	f.mu.Lock()
	thinned := thins(&info.Config)
	w := look{logID: f.cfg.LogID, tag: natsmsg.NewTagger(f.cfg.Key), named: !thinned && !mayReplicate(info) && f.began && f.cursor >= f.doubt, cursor: f.cursor, thins: thinned, doubted: f.displaced > f.cursor,
		pos: position{last: st.LastSeq, claims: claims{}}, held: held{records: map[mqttetl.Seq]bool{}}}
	f.mu.Unlock()
	lowest := f.barren.above(st)
	fresh := f.cfg.Fresh && !f.began
	if fresh {
		lowest = max(lowest, st.LastSeq-min(st.LastSeq, lookFresh))
	}
	size, largest := uint64(1), 1 // one is nearly always enough
	for n := st.LastSeq; n >= lowest && n > 0; {
		first := lowest
		if n >= size {
			first = max(first, n-size+1)
		}
		found, err := f.messages(ctx, c, first, n)
		if err != nil {
			return position{}, err
		}
		for ; n >= first && n > 0; n-- {
			largest = max(largest, found[n-first].bytes)
			if w.see(&found[n-first], n) {
				return f.looked(&w), nil
			}
		}
		size = min(atOnce(size, largest), max(1, readBack/uint64(c.MaxPayload())))
	}
	if fresh {
		f.claim(&w)
	}
	w.beginning()
	return f.looked(&w), nil
}

// claim keeps the highest id that was found, and forgets all of them.
func (f *Forwarder) claim(w *look) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for seq := range w.pos.claims {
		f.claimed = max(f.claimed, seq)
	}
	clear(w.pos.claims)
}

// looked notes how far nothing of ours is in the stream, lest each attempt looks
// through it all again.
func (f *Forwarder) looked(w *look) position {
	f.barren = 0
	if !w.pos.mine && len(w.pos.claims) == 0 {
		f.barren = barren(w.pos.last)
	}
	p := w.position()
	if n := w.deleted(&p); n > 0 {
		f.statePassed(n, p.ours, "they were in flight, and later ones are in the stream")
	}
	return p
}

// deleted is how many records after the cursor are taken for stored although the stream
// holds them no more.
func (w *look) deleted(p *position) (n int) {
	if !w.thins || w.doubted || !p.mine {
		return 0
	}
	for seq := max(w.cursor, p.ours-min(p.ours, windowMessages)) + 1; seq < p.ours; seq++ {
		if !w.held.holds(seq) {
			n++
		}
	}
	return n
}

// thins says whether the stream deletes messages from its middle by itself, or has those
// who publish to it do so: for newer ones of the subject, once they are consumed, at their own time.
func thins(c *jetstream.StreamConfig) bool {
	return c.MaxMsgsPerSubject > 0 || c.Retention != jetstream.LimitsPolicy || c.AllowMsgTTL || c.AllowRollup
}

// barren is the number of a message up to which none is ours.
type barren uint64

// above is the first message of the stream that is to be looked at.
func (b barren) above(st *jetstream.StreamState) uint64 {
	if uint64(b) > st.LastSeq { // another stream
		return st.FirstSeq
	}
	return max(st.FirstSeq, uint64(b)+1)
}

// atOnce is how many messages to ask for after size of them, the largest of which
// had so many bytes.
func atOnce(size uint64, largest int) uint64 {
	return min(lookAtOnce, 4*size, uint64(max(1, windowBytes/largest)))
}

// look goes through the stream's last messages, newest first.
type look struct {
	logID  string
	tag    *natsmsg.Tagger
	named  bool        // each of our messages follows the record before it, and nothing speaks against it: the newest one tells all
	cursor mqttetl.Seq // all up to it is settled
	thins  bool        // the stream deletes messages from its middle by itself
	// A record after cursor was not acknowledged in its turn: what is gone is not taken for ours.
	doubted bool

	pos    position
	held   held
	lowest mqttetl.Seq // of held
	bytes  int         // of held
	seen   int
	others int // that are not ours, since the last one of ours
	gaps   int // of these, that stand before one of ours and may be in the place of a record
}

// see takes the next message, number n, and returns true when no further one is
// needed.
func (w *look) see(m *found, n uint64) bool {
	w.seen++
	seq, claimed := natsmsg.ParseMsgID(m.ID, w.logID)
	if !claimed || !w.tag.Fits(&m.Place, seq, n) {
		if w.seen == 1 {
			w.pos.by = fmt.Sprintf("another writer, message id %.100q", m.ID)
		}
		if claimed && (!w.pos.mine || seq > w.cursor && seq < w.lowest) { // in order, as far as it goes
			w.pos.claims[seq] = append(w.pos.claims[seq], m.sum)
		}
		w.pos.shared = w.pos.shared || m.there
		if m.there || !w.thins || w.doubted {
			w.others++
		}
		return !w.pos.mine && w.seen >= lookBack || w.seen >= windowMessages+lookBack
	}
	w.gaps, w.others = w.gaps+w.others, 0
	if !w.pos.mine {
		w.pos.mine, w.pos.proven = true, n
	}
	w.held.last = max(w.held.last, seq, m.Late)
	if w.named || max(seq, m.Late) <= w.cursor {
		w.lowest = w.cursor
		return true
	}
	if seq > w.cursor {
		w.held.records[seq] = true
	}
	if w.lowest == 0 || seq < w.lowest {
		w.lowest = seq
	}
	w.bytes += m.bytes
	// More than that was never in flight: what is older has been confirmed.
	return len(w.held.records) >= windowMessages || w.bytes >= windowBytes
}

// beginning counts the messages of others with which the stream begins: each may
// be in the place of a record directly before the first one of ours, when what
// stood before them has been discarded.
func (w *look) beginning() {
	if w.doubted && w.pos.mine && w.lowest > w.cursor+1 { // or with what has been deleted
		w.gaps, w.lowest = w.gaps+1, w.cursor
	}
	if n := mqttetl.Seq(w.others); n > 0 && w.pos.mine && w.lowest > w.cursor+1 {
		w.gaps += w.others
		w.lowest = max(w.cursor+n+1, w.lowest) - n - 1
	}
}

func (w *look) position() position {
	p := w.pos
	p.ours = w.held.last
	if w.named || w.gaps == 0 || !p.mine {
		return p
	}
	seq := w.lowest
	for w.held.holds(seq + 1) {
		seq++
	}
	if seq < p.ours {
		p.ours, p.held = seq, &w.held
	}
	return p
}

// found is a message of the stream.
type found struct {
	there bool // false: deleted
	natsmsg.Place
	bytes  int    // header and body, as the window counts them
	sum    uint64 // of what is the record's own in it
	object uint64 // the same without the subject
}

// messages returns what stands in the stream from first to last.
func (f *Forwarder) messages(ctx context.Context, c *conn, first, last uint64) ([]found, error) {
	all := make([]found, last-first+1)
	g, ctx := errgroup.WithContext(ctx)
	for i := range all {
		g.Go(func() (err error) {
			all[i], err = f.message(ctx, c, first+uint64(i))
			return err
		})
	}
	return all, g.Wait()
}

// message returns one message of the stream.
func (f *Forwarder) message(ctx context.Context, c *conn, n uint64) (found, error) {
	return c.message(ctx, f.cfg.Stream, n)
}

// message returns one message of a stream. It asks the stream's leader: a
// direct get may be answered by a replica that is behind.
func (c *conn) message(ctx context.Context, stream string, n uint64) (found, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	defer c.net.Expect(ctx, dial.MaxStored(c.MaxPayload()))()
	what := fmt.Sprintf("read message %d of stream %s", n, stream)
	m, err := c.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, fmt.Appendf(nil, `{"seq":%d}`, n))
	if err != nil {
		return found{}, unavailable(what, err)
	}
	var got struct {
		Error   *apiError `json:"error"`
		Message struct {
			Subject string `json:"subject"`
			Header  []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &got); err != nil {
		return found{}, unavailable(what, err)
	}
	const noMessageFound = 10037
	if got.Error != nil && got.Error.Code == noMessageFound {
		return found{}, nil
	}
	if got.Error != nil {
		return found{}, unavailable(what, got.Error)
	}
	return readFound(&natsmsg.Message{Subject: got.Message.Subject, Header: string(got.Message.Header), Body: got.Message.Data}), nil
}
