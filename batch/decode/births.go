package decode

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Births is what a Sparkplug decoder must remember between payloads. The
// archive keeps it in the transaction that stores the rows, so that rows and
// memory never disagree. One decoder, one Births: two routes that read the same
// topics have one each, or every message would be counted twice.
//
// An edge node is named "group/node", a device "group/node/device".
type Births interface {
	// Session returns the session of an edge node, the zero Session if unknown.
	Session(node string) (Session, error)
	SetSession(node string, s Session) error
	// Birth returns the last birth certificate of a node or device, nil if it
	// has none, or none since the last one of its node.
	Birth(owner string) (*Birth, error)
	SetBirth(owner string, b *Birth) error
	// ForgetDevices forgets the certificates of all devices of a node.
	ForgetDevices(node string) error
}

// Session is an edge node from an NBIRTH on.
type Session struct {
	Online bool   `json:"online"` // until an NDEATH
	Seq    uint8  `json:"seq"`    // of the last message of the node or its devices
	BdSeq  uint64 `json:"bd_seq"` // ties an NDEATH to its NBIRTH
	Gaps   uint64 `json:"gaps"`   // times that seq did not follow its predecessor, over all sessions
}

// BirthMetric is a metric as its birth certificate declares it.
type BirthMetric struct {
	Name     string        `json:"name"`
	Alias    *uint64       `json:"alias,omitempty"`
	DataType uint32        `json:"type"`              // Sparkplug 3.0, 6.4.16
	Members  []BirthMetric `json:"members,omitempty"` // of a Template
}

// Birth is a birth certificate. It does not change once it is made.
type Birth struct {
	Dead    bool // by a DDEATH
	metrics []BirthMetric
	byAlias map[uint64]int
	byName  map[string]int
}

// NewBirth makes a certificate of metrics, which it keeps. Of equal names or
// aliases the last one counts.
func NewBirth(metrics []BirthMetric) *Birth {
	b := &Birth{metrics: metrics, byAlias: map[uint64]int{}, byName: map[string]int{}}
	for i, m := range metrics {
		b.byName[m.Name] = i
		if m.Alias != nil {
			b.byAlias[*m.Alias] = i
		}
	}
	return b
}

// Metrics returns what NewBirth was given.
func (b *Birth) Metrics() []BirthMetric { return b.metrics }

// Alias returns the metric of an alias, nil if there is none.
func (b *Birth) Alias(alias uint64) *BirthMetric {
	if i, ok := b.byAlias[alias]; ok {
		return &b.metrics[i]
	}
	return nil
}

// Name returns the metric of a name, nil if there is none.
func (b *Birth) Name(name string) *BirthMetric {
	if i, ok := b.byName[name]; ok {
		return &b.metrics[i]
	}
	return nil
}

// birthJSON is how a Birth is stored.
type birthJSON struct {
	Dead    bool          `json:"dead,omitempty"`
	Metrics []BirthMetric `json:"metrics"`
}

// Memory is Births in memory, for an owner that stores what Changes lists and
// gives it back by Load. The zero Memory is empty and ready.
type Memory struct {
	sessions map[string]Session
	births   map[string]*Birth
	undo     map[string]func() // by key of Change
}

// Change is an entry of a Memory as it is stored.
type Change struct {
	Key   string // "session group/node" or "birth group/node[/device]"
	Value []byte // JSON; nil: the entry is gone
}

const (
	sessionKey = "session "
	birthKey   = "birth "
)

// Session implements Births.
func (m *Memory) Session(node string) (Session, error) { return m.sessions[node], nil }

// SetSession implements Births.
func (m *Memory) SetSession(node string, s Session) error {
	m.sessions = set(m, m.sessions, sessionKey, node, s, true)
	return nil
}

// Birth implements Births.
func (m *Memory) Birth(owner string) (*Birth, error) { return m.births[owner], nil }

// SetBirth implements Births.
func (m *Memory) SetBirth(owner string, b *Birth) error {
	m.births = set(m, m.births, birthKey, owner, b, b != nil)
	return nil
}

// ForgetDevices implements Births.
func (m *Memory) ForgetDevices(node string) error {
	for owner := range m.births {
		if strings.HasPrefix(owner, node+"/") {
			m.births = set(m, m.births, birthKey, owner, nil, false)
		}
	}
	return nil
}

// set changes an entry and remembers how to undo it.
func set[V any](m *Memory, of map[string]V, kind, name string, v V, keep bool) map[string]V {
	if of == nil {
		of = map[string]V{}
	}
	if m.undo == nil {
		m.undo = map[string]func(){}
	}
	if _, ok := m.undo[kind+name]; !ok {
		old, had := of[name]
		m.undo[kind+name] = func() {
			if delete(of, name); had {
				of[name] = old
			}
		}
	}
	if delete(of, name); keep {
		of[name] = v
	}
	return of
}

// Changes lists what differs from the last Commit, in the order of the keys.
func (m *Memory) Changes() ([]Change, error) {
	var out []Change
	for key := range m.undo {
		c := Change{Key: key}
		var err error
		if node, ok := strings.CutPrefix(key, sessionKey); ok {
			c.Value, err = json.Marshal(m.sessions[node])
		} else if b := m.births[strings.TrimPrefix(key, birthKey)]; b != nil {
			c.Value, err = json.Marshal(birthJSON{b.Dead, b.metrics})
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// Commit says that Changes has been stored.
func (m *Memory) Commit() { m.undo = nil }

// Rollback undoes what has changed since the last Commit.
func (m *Memory) Rollback() {
	for _, undo := range m.undo {
		undo()
	}
	m.undo = nil
}

// Load takes an entry that Changes has listed, before the first use.
func (m *Memory) Load(key string, value []byte) error {
	if node, ok := strings.CutPrefix(key, sessionKey); ok {
		var s Session
		if err := json.Unmarshal(value, &s); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		m.SetSession(node, s)
	} else if owner, ok := strings.CutPrefix(key, birthKey); ok {
		var j birthJSON
		if err := json.Unmarshal(value, &j); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		b := NewBirth(j.Metrics)
		b.Dead = j.Dead
		m.SetBirth(owner, b)
	} else {
		return fmt.Errorf("unknown key %q", key)
	}
	delete(m.undo, key)
	return nil
}
