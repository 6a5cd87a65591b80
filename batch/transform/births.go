package transform

import (
	"container/list"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Births is where an Applier looks up what its Sparkplug routes have learned
// before. It holds all that Applier.Births has returned when the next record is
// applied.
type Births interface {
	// Birth is the value of a key, "" if there is none.
	Birth(route, key string) (value string, err error)
	// BirthsAfter are those of a route whose keys are greater than after, up to
	// max of them, in the order of keys.
	BirthsAfter(route, after string, max int) ([]store.Birth, error)
}

// The keys of a Birth are one of these and the name of the node or device.
const (
	sessionKey = "session "
	birthKey   = "birth "
)

const (
	// knownBytes bounds what is kept in memory of what the store has.
	knownBytes = 32 << 20
	// knownCost is what an entry takes beside the metrics of a birth.
	knownCost = 256
	// ForgetAfter is how long a node is remembered after its death.
	ForgetAfter = 7 * 24 * time.Hour

	sweepEvery = time.Minute
	sweepNodes = 1000
)

// births is what the Sparkplug routes of an Applier remember: in memory the
// changes that Applier.Births has not returned yet, and what was used last of
// the rest.
type births struct {
	store   Births // nil: all stays in memory
	routes  []*memory
	changed []*remembered
	pending int       // bytes of changed
	used    list.List // of *remembered that the store has, too; the front was used last
	bytes   int       // of used
	limit   int       // of bytes
	swept   time.Time
	reading time.Duration // large births from the store, since it was set to 0
	err     error         // of the store
}

func newBirths(store Births) *births {
	return &births{store: store, limit: knownBytes, swept: time.Now()}
}

// remembered is a session, or a birth. One that was looked for and is not there
// is remembered, too.
type remembered struct {
	of      *memory
	key     string
	session decode.Node
	birth   *decode.Birth
	node    string        // of the birth of a device
	size    int           // bytes in memory, about
	place   *list.Element // in used, or nil
	changed bool          // it is in changed
	removed bool          // it is in changed, but is not known any more
}

// memory is what one route remembers.
type memory struct {
	*births
	route   string
	known   map[string]*remembered              // by key
	devices map[string]map[*remembered]struct{} // their births, by node
	dropped map[string]bool                     // keys that the store is to forget; true: with all that begin so
	gaps    uint64                              // of seq, since the Applier was made
	sweepAt string                              // the last session that was looked at
}

func (b *births) memoryOf(route string) *memory {
	m := &memory{births: b, route: route, known: map[string]*remembered{}, devices: map[string]map[*remembered]struct{}{}, dropped: map[string]bool{}, sweepAt: sessionKey}
	b.routes = append(b.routes, m)
	return m
}

func (m *memory) Node(node string) (decode.Node, error) {
	r, err := m.find(sessionKey+node, "")
	if err != nil {
		return decode.Node{}, err
	}
	return r.session, nil
}

func (m *memory) SetNode(node string, s decode.Node) error {
	r, err := m.find(sessionKey+node, "")
	if err != nil {
		return err
	}
	if s.Gaps > r.session.Gaps {
		m.gaps += s.Gaps - r.session.Gaps
	}
	switch {
	case s.Online:
		s.Died = 0
	case s.Died == 0:
		s.Died = time.Now().Unix()
	}
	r.session = s
	m.change(r, knownCost+2*len(r.key))
	return nil
}

func (m *memory) Birth(owner string) (*decode.Birth, error) {
	r, err := m.find(birthKey+owner, nodeOf(owner))
	if err != nil {
		return nil, err
	}
	return r.birth, nil
}

func (m *memory) SetBirth(owner string, b *decode.Birth) error {
	key := birthKey + owner
	r := m.known[key]
	if r == nil {
		r = m.know(&remembered{of: m, key: key, node: nodeOf(owner)})
	}
	r.birth = b
	size := knownCost + 2*len(key)
	if b != nil {
		size += b.Size()
	}
	m.change(r, size)
	return nil
}

func (m *memory) ForgetDevices(node string) error {
	for r := range m.devices[node] {
		m.remove(r)
	}
	m.dropped[birthKey+node+"/"] = true
	return nil
}

// nodeOf is the node of a device, "" of a node: "group/node/device".
func nodeOf(owner string) string {
	if i := strings.LastIndexByte(owner, '/'); strings.IndexByte(owner, '/') < i {
		return owner[:i]
	}
	return ""
}

// find returns what is remembered under the key, from the store if it must.
func (m *memory) find(key, node string) (*remembered, error) {
	if r := m.known[key]; r != nil {
		if r.place != nil {
			m.used.MoveToFront(r.place)
		}
		return r, nil
	}
	r := &remembered{of: m, key: key, node: node, size: knownCost + 2*len(key)}
	if m.store == nil {
		return r, nil // it is not kept before it is changed
	}
	err := m.read(r)
	if m.err != nil {
		return nil, m.err
	}
	m.know(r)
	m.keep(r)
	m.evict()
	return r, err
}

// largeBirth is the text of one that takes a while to read.
const largeBirth = 256 << 10

func (m *memory) read(r *remembered) error {
	if m.err != nil || m.isDropped(r) {
		return m.err
	}
	begun := time.Now()
	value, err := m.store.Birth(m.route, r.key)
	if err != nil {
		m.err = fmt.Errorf("route %s: %w", m.route, err)
		return m.err
	}
	if value == "" {
		return nil
	}
	if strings.HasPrefix(r.key, sessionKey) {
		err = json.Unmarshal([]byte(value), &r.session)
	} else {
		r.birth = &decode.Birth{}
		err = json.Unmarshal([]byte(value), r.birth)
		r.size += r.birth.Size() // 0 after an error
	}
	if err != nil { // said once, then it is as if there were none
		r.session, r.birth = decode.Node{}, nil
		return fmt.Errorf("%w: %q in table births: %w", mqttetl.ErrDamaged, r.key, err)
	}
	if len(value) > largeBirth {
		m.reading += time.Since(begun)
	}
	return nil
}

// isDropped says that the store has yet to forget it.
func (m *memory) isDropped(r *remembered) bool {
	if _, ok := m.dropped[r.key]; ok {
		return true
	}
	return r.node != "" && m.dropped[birthKey+r.node+"/"]
}

// know makes it known. It is neither in changed nor in used yet.
func (m *memory) know(r *remembered) *remembered {
	m.known[r.key] = r
	if r.node != "" {
		if m.devices[r.node] == nil {
			m.devices[r.node] = map[*remembered]struct{}{}
		}
		m.devices[r.node][r] = struct{}{}
	}
	return r
}

// unknow is the reverse.
func (m *memory) unknow(r *remembered) {
	delete(m.known, r.key)
	if r.node != "" {
		delete(m.devices[r.node], r)
		if len(m.devices[r.node]) == 0 {
			delete(m.devices, r.node)
		}
	}
}

// change says that the store does not have it as it is now.
func (m *memory) change(r *remembered, size int) {
	if m.known[r.key] != r { // there is no store, and it was looked for
		m.know(r)
	}
	switch {
	case r.place != nil:
		m.used.Remove(r.place)
		m.bytes -= r.size
		r.place = nil
		fallthrough
	case !r.changed:
		r.changed = true
		m.changed = append(m.changed, r)
		m.pending += size
	default:
		m.pending += size - r.size
	}
	r.size = size
}

// remove forgets it here.
func (m *memory) remove(r *remembered) {
	m.unknow(r)
	if r.place != nil {
		m.used.Remove(r.place)
		m.bytes -= r.size
		return
	}
	m.pending -= r.size
	r.removed = true
}

// keep notes that the store has it.
func (b *births) keep(r *remembered) {
	r.place = b.used.PushFront(r)
	b.bytes += r.size
}

// evict forgets here what was used longest ago, but for the last one used.
func (b *births) evict() {
	for b.store != nil && b.bytes > b.limit && b.used.Len() > 1 {
		r := b.used.Back().Value.(*remembered)
		r.of.remove(r)
	}
}

// take returns what the store does not have yet: what it is to forget comes first.
func (b *births) take() (list []store.Birth) {
	b.sweep(time.Now())
	for _, m := range b.routes {
		for key, below := range m.dropped {
			list = append(list, store.Birth{Route: m.route, Key: key, Below: below})
		}
		clear(m.dropped)
	}
	for _, r := range b.changed {
		if r.removed {
			continue
		}
		r.changed = false
		list = append(list, store.Birth{Route: r.of.route, Key: r.key, Value: r.value()})
		b.keep(r)
	}
	clear(b.changed)
	b.changed, b.pending = b.changed[:0], 0
	b.evict()
	return list
}

// value is what is stored, "" for nothing.
func (r *remembered) value() string {
	switch {
	case strings.HasPrefix(r.key, sessionKey):
		return asJSON(r.session)
	case r.birth == nil:
		return ""
	}
	return asJSON(r.birth)
}

// sweep forgets some of the nodes that died long ago, if it is time to look for
// them. Data of a dead node mean nothing before its next NBIRTH, so this changes
// no row.
func (b *births) sweep(now time.Time) {
	if b.store == nil || b.err != nil || now.Sub(b.swept) < sweepEvery {
		return
	}
	b.swept = now
	for _, m := range b.routes {
		page, err := m.store.BirthsAfter(m.route, m.sweepAt, sweepNodes)
		if err != nil {
			b.err = fmt.Errorf("route %s: %w", m.route, err)
			return
		}
		m.sweepAt = sessionKey
		for _, s := range page {
			m.sweepAt = s.Key
			m.forgetDead(s, now.Add(-ForgetAfter))
		}
		if len(page) < sweepNodes {
			m.sweepAt = sessionKey // from the first one again
		}
	}
}

// forgetDead forgets the node of the session if it died before then.
func (m *memory) forgetDead(stored store.Birth, then time.Time) {
	node, ok := strings.CutPrefix(stored.Key, sessionKey)
	var s decode.Node
	if r := m.known[stored.Key]; r != nil {
		s = r.session
	} else if err := json.Unmarshal([]byte(stored.Value), &s); err != nil {
		return // whoever looks for it says so
	}
	if !ok || s.Online || s.Died > then.Unix() {
		return
	}
	for _, key := range []string{stored.Key, birthKey + node} {
		if r := m.known[key]; r != nil {
			m.remove(r)
		}
		m.dropped[key] = false
	}
	_ = m.ForgetDevices(node) // it has no error
}

// asJSON is for types that always have a JSON form.
func asJSON(v any) string {
	p, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(p)
}
