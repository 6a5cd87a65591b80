package decode

// Births is what a Sparkplug decoder must remember between payloads. The
// archive keeps it in the transaction that stores the rows, so that rows and
// memory never disagree. One decoder, one Births: two routes that read the same
// topics have one each, or every message would be counted twice.
//
// An edge node is named "group/node", a device "group/node/device". The decoder
// changes the memory only behind a payload that it could decode in full.
type Births interface {
	// Session returns the session of an edge node, the zero Session if unknown.
	Session(node string) (Session, error)
	SetSession(node string, s Session) error
	// Birth returns the birth certificate of a node or device, nil if it has
	// none that no death or newer birth of its node has ended.
	Birth(owner string) (*Birth, error)
	// SetBirth replaces the certificate; nil forgets it.
	SetBirth(owner string, b *Birth) error
	// ForgetDevices forgets the certificates of all devices of a node.
	ForgetDevices(node string) error
}

// Session is an edge node between an NBIRTH and an NDEATH.
type Session struct {
	Online bool   `json:"online"`
	Seq    uint8  `json:"seq"`    // of the last message of the node or its devices
	BdSeq  uint64 `json:"bd_seq"` // ties an NDEATH to its NBIRTH
	Gaps   uint64 `json:"gaps"`   // times that seq did not follow its predecessor, over all sessions
}

// BirthMetric is a metric as its birth certificate declares it.
type BirthMetric struct {
	Name     string  `json:"name"`
	Alias    *uint64 `json:"alias,omitempty"`
	DataType uint32  `json:"type"` // Sparkplug 3.0, 6.4.16
}

// Birth is a birth certificate. It does not change once it is made.
type Birth struct {
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

// Alias returns the metric of an alias.
func (b *Birth) Alias(alias uint64) (BirthMetric, bool) {
	i, ok := b.byAlias[alias]
	if !ok {
		return BirthMetric{}, false
	}
	return b.metrics[i], true
}

// Name returns the metric of a name.
func (b *Birth) Name(name string) (BirthMetric, bool) {
	i, ok := b.byName[name]
	if !ok {
		return BirthMetric{}, false
	}
	return b.metrics[i], true
}
