package decode

import (
	"encoding/json"
	"maps"
	"strings"
)

// Births is what a Sparkplug decoder must remember between payloads. The
// archive keeps it in the transaction that stores the rows, so that rows and
// memory never disagree. One decoder, one Births: two routes that read the same
// topics have one each, or every message would be counted twice.
//
// An edge node is named "group/node", a device "group/node/device".
type Births interface {
	// Node returns the session of an edge node, the zero Node if unknown.
	Node(node string) (Node, error)
	SetNode(node string, s Node) error
	// Birth returns the last birth certificate of a node or device, nil if it
	// has none, or none since the last one of its node.
	Birth(owner string) (*Birth, error)
	// SetBirth replaces the certificate.
	SetBirth(owner string, b *Birth) error
	// ForgetDevices forgets the certificates of all devices of a node.
	ForgetDevices(node string) error
}

// Node is an edge node from an NBIRTH on.
type Node struct {
	Online bool   `json:"online"` // until an NDEATH
	Seq    uint8  `json:"seq"`    // of the last message of the node or its devices
	BdSeq  uint64 `json:"bd_seq"` // ties an NDEATH to its NBIRTH
	Gaps   uint64 `json:"gaps"`   // times that seq did not follow its predecessor, over all sessions

	// Died is when it ended, in Unix seconds. Births sets it, who has a clock.
	Died int64 `json:"died,omitempty"`
}

// BirthMetric is a metric as its birth certificate declares it.
type BirthMetric struct {
	Name     string        `json:"name"`
	Alias    *uint64       `json:"alias,omitempty"`
	DataType uint32        `json:"type"`              // Sparkplug 3.0, 6.4.16
	Members  []BirthMetric `json:"members,omitempty"` // of a Template

	index *Birth // of Members, once it was asked for
}

// members are what the birth says of a Template's members, nil if nothing.
func (m *BirthMetric) members() *Birth {
	if m == nil || len(m.Members) == 0 {
		return nil
	}
	if m.index == nil {
		m.index = NewBirth(m.Members)
	}
	return m.index
}

// Birth is a birth certificate. It does not change once it is made, and is
// stored as JSON.
type Birth struct {
	Dead    bool // by a DDEATH
	metrics []BirthMetric
	byAlias map[uint64]int
	byName  map[string]int
	size    int
}

// NewBirth makes a certificate of metrics, which it keeps. Of equal names or
// aliases the last one counts.
func NewBirth(metrics []BirthMetric) *Birth {
	b := &Birth{metrics: metrics, byAlias: map[uint64]int{}, byName: make(map[string]int, len(metrics)), size: sizeOf(metrics)}
	for i, m := range metrics {
		b.byName[m.Name] = i
		if m.Alias != nil {
			b.byAlias[*m.Alias] = i
		}
	}
	return b
}

// rememberedCost is what a metric takes in a Birth beside its name, about.
const rememberedCost = 192

func sizeOf(metrics []BirthMetric) (n int) {
	for i := range metrics {
		n += rememberedCost + len(metrics[i].Name)
		if members := metrics[i].Members; len(members) > 0 {
			n += sizeOf(members)
		}
	}
	return n
}

// Size is what the certificate takes in memory, about.
func (b *Birth) Size() int { return b.size }

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

// MarshalJSON implements json.Marshaler.
func (b *Birth) MarshalJSON() ([]byte, error) { return json.Marshal(birthJSON{b.Dead, b.metrics}) }

// UnmarshalJSON implements json.Unmarshaler.
func (b *Birth) UnmarshalJSON(p []byte) error {
	var j birthJSON
	if err := json.Unmarshal(p, &j); err != nil {
		return err
	}
	*b = *NewBirth(j.Metrics)
	b.Dead = j.Dead
	return nil
}

// memory is Births of a decoder that was given none.
type memory struct {
	sessions map[string]Node
	births   map[string]*Birth
}

func newMemory() *memory { return &memory{map[string]Node{}, map[string]*Birth{}} }

func (m *memory) Node(node string) (Node, error) { return m.sessions[node], nil }

func (m *memory) SetNode(node string, s Node) error {
	m.sessions[node] = s
	return nil
}

func (m *memory) Birth(owner string) (*Birth, error) { return m.births[owner], nil }

func (m *memory) SetBirth(owner string, b *Birth) error {
	m.births[owner] = b
	return nil
}

func (m *memory) ForgetDevices(node string) error {
	maps.DeleteFunc(m.births, func(owner string, _ *Birth) bool { return strings.HasPrefix(owner, node+"/") })
	return nil
}
