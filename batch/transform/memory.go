package transform

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
)

// memory is the births of one Sparkplug route. It notes what has changed, for
// the archive.
type memory struct {
	sessions map[string]decode.Session
	births   map[string]*decode.Birth
	changed  map[string]bool // keys
	gaps     uint64          // of seq, since the Applier was made
}

func newMemory() *memory {
	return &memory{map[string]decode.Session{}, map[string]*decode.Birth{}, map[string]bool{}, 0}
}

// The keys under which the archive keeps it are one of these and the name of
// the node or device.
const (
	sessionKey = "session "
	birthKey   = "birth "
)

func (m *memory) Session(node string) (decode.Session, error) { return m.sessions[node], nil }

func (m *memory) SetSession(node string, s decode.Session) error {
	if was := m.sessions[node]; s.Gaps > was.Gaps {
		m.gaps += s.Gaps - was.Gaps
	}
	m.sessions[node] = s
	m.changed[sessionKey+node] = true
	return nil
}

func (m *memory) Birth(owner string) (*decode.Birth, error) { return m.births[owner], nil }

func (m *memory) SetBirth(owner string, b *decode.Birth) error {
	if b == nil {
		delete(m.births, owner)
	} else {
		m.births[owner] = b
	}
	m.changed[birthKey+owner] = true
	return nil
}

func (m *memory) ForgetDevices(node string) error {
	for owner := range m.births {
		if strings.HasPrefix(owner, node+"/") {
			delete(m.births, owner)
			m.changed[birthKey+owner] = true
		}
	}
	return nil
}

// load takes in what the archive has kept.
func (m *memory) load(b *mqttetl.Birth) error {
	if node, ok := strings.CutPrefix(b.Key, sessionKey); ok {
		var s decode.Session
		err := json.Unmarshal([]byte(b.Value), &s)
		m.sessions[node] = s
		return err
	}
	if owner, ok := strings.CutPrefix(b.Key, birthKey); ok {
		birth := &decode.Birth{}
		err := json.Unmarshal([]byte(b.Value), birth)
		m.births[owner] = birth
		return err
	}
	return fmt.Errorf("%w: birth %q of route %s", mqttetl.ErrDamaged, b.Key, b.Route)
}

// changes appends what has changed since the last call.
func (m *memory) changes(list []mqttetl.Birth, route string) []mqttetl.Birth {
	for key := range m.changed {
		b := mqttetl.Birth{Route: route, Key: key}
		if node, ok := strings.CutPrefix(key, sessionKey); ok {
			b.Value = asJSON(m.sessions[node])
		} else if birth := m.births[strings.TrimPrefix(key, birthKey)]; birth != nil {
			b.Value = asJSON(birth)
		}
		list = append(list, b)
	}
	clear(m.changed)
	return list
}

// asJSON is for types that always have a JSON form.
func asJSON(v any) string {
	p, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(p)
}
