package simulate

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
)

// Scenario is what is sent.
type Scenario struct {
	Seed     uint64
	Start    time.Time     // the time that payloads tell of the moment 0
	Duration time.Duration // messages from then on are not sent; 0: no end
	Count    uint64        // messages in all; 0: no end
	Prefix   string        // topic levels before every topic
	Groups   []Group
}

// Group is devices of one profile, or of several in turn.
type Group struct {
	Profile string        // name, names with commas between them, or All
	Devices int           // 1 to MaxDevices
	First   int           // number of the first device, which names it
	Rate    float64       // messages a second, of all devices of the group; 0: one a second of each
	Jitter  float64       // 0 to 1: how far a wait may be from the mean, as a part of it
	Burst   int           // readings that a device sends at once; 0: as the profile has it
	Prefix  string        // topic levels before those of the device
	After   time.Duration // the group begins to send
}

// Bounds of a group.
const (
	MaxDevices = 1_000_000
	MaxRate    = 1e8
	MaxBurst   = 100_000
)

// Check says what is wrong with g, nil if nothing is.
func (g *Group) Check() error {
	var errs []error
	for _, c := range g.checks() {
		errs = append(errs, c.check())
	}
	return errors.Join(errs...)
}

// key is a key of a mapping, where its value goes, and what the value must be.
type key struct {
	name  string
	set   any // pointer, or func(ast.Node)
	check func() error
}

func within[T int | float64](name string, v *T, least, most T) func() error {
	return func() error {
		if !(*v >= least && *v <= most) {
			return fmt.Errorf("%s must be from %v to %v, not %v", name, least, most, *v)
		}
		return nil
	}
}

// checks are the keys of a group with their bounds.
func (g *Group) checks() []key {
	return []key{
		{"profile", &g.Profile, func() error { _, err := find(g.Profile); return err }},
		{"devices", &g.Devices, within("devices", &g.Devices, 1, MaxDevices)},
		{"first", &g.First, within("first", &g.First, 0, 1<<30)},
		{"rate", &g.Rate, within("rate", &g.Rate, 0, MaxRate)},
		{"jitter", &g.Jitter, within("jitter", &g.Jitter, 0, 1)},
		{"burst", &g.Burst, within("burst", &g.Burst, 0, MaxBurst)},
		{"prefix", &g.Prefix, func() error { return CheckPrefix(g.Prefix) }},
		{"after", &g.After, notNegative("after", &g.After)},
	}
}

func notNegative(name string, d *time.Duration) func() error {
	return func() error {
		if *d < 0 {
			return fmt.Errorf("%s must not be negative, it is %v", name, *d)
		}
		return nil
	}
}

// CheckPrefix says what is wrong with topic levels before a topic.
func CheckPrefix(p string) error {
	if p == "" {
		return nil
	}
	if strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") {
		return fmt.Errorf("prefix %q must not begin or end with /", p)
	}
	if err := mqttetl.CheckTopic([]byte(p)); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	return nil
}

// Load reads a scenario file. Its errors are config.Problems, but for a file
// that cannot be read.
func Load(path string) (*Scenario, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	return Parse(path, src)
}

// Parse reads a scenario: YAML, read strictly. name is in the messages. The
// error, if any, is config.Problems: everything wrong with the values at once.
func Parse(name string, src []byte) (*Scenario, error) {
	r := &reader{file: name}
	s := &Scenario{Seed: 1}
	if root := r.parse(src); root != nil {
		r.scenario(root, s)
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return s, nil
}

// reader walks the YAML and collects problems.
type reader struct {
	file     string
	problems config.Problems
}

func (r *reader) parse(src []byte) ast.Node {
	file, err := parser.ParseBytes(src, 0)
	if err != nil {
		r.syntax(err)
		return nil
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		r.problem(nil, "the file must hold one YAML document with groups")
		return nil
	}
	return file.Docs[0].Body
}

func (r *reader) scenario(n ast.Node, s *Scenario) {
	groups := func(n ast.Node) {
		list, ok := n.(*ast.SequenceNode)
		if !ok || len(list.Values) == 0 {
			r.problem(n.GetToken(), "groups must be a list of at least one group")
			return
		}
		for _, v := range list.Values {
			g := Group{Profile: All, Devices: 10, Rate: 10, Jitter: 0.1}
			r.mapping(v, "a group", g.checks())
			s.Groups = append(s.Groups, g)
		}
	}
	seen := r.mapping(n, "the scenario", []key{
		{"seed", &s.Seed, nil},
		{"start", &s.Start, nil},
		{"duration", &s.Duration, notNegative("duration", &s.Duration)},
		{"count", &s.Count, nil},
		{"prefix", &s.Prefix, func() error { return CheckPrefix(s.Prefix) }},
		{"groups", groups, nil},
	})
	if !seen["groups"] && len(r.problems) == 0 {
		r.problem(nil, "groups is missing in the scenario")
	}
}

// mapping sets what the keys of n mean and returns those that it has.
func (r *reader) mapping(n ast.Node, what string, keys []key) map[string]bool {
	m, ok := n.(ast.MapNode)
	if !ok {
		r.problem(n.GetToken(), "%s must be a mapping of keys to values", what)
		return nil
	}
	seen := map[string]bool{}
	for it := m.MapRange(); it.Next(); {
		name := it.Key().GetToken().Value
		if seen[name] = r.pair(keys, name, it.Value()); !seen[name] {
			var known []string
			for _, k := range keys {
				known = append(known, k.name)
			}
			r.problem(it.Key().GetToken(), "unknown key %q in %s, which knows %s", name, what, strings.Join(known, ", "))
		}
	}
	return seen
}

// pair sets the value of one key, false if there is no such key.
func (r *reader) pair(keys []key, name string, value ast.Node) bool {
	for _, k := range keys {
		if k.name != name {
			continue
		}
		if set, ok := k.set.(func(ast.Node)); ok {
			set(value)
		} else if _, null := value.(*ast.NullNode); null {
			r.problem(value.GetToken(), "%s has no value", name)
		} else if _, scalar := value.(ast.ScalarNode); !scalar {
			r.problem(value.GetToken(), "%s must be %s", name, wanted[name])
		} else if err := fill(value, k.set); err != nil {
			r.problem(value.GetToken(), "%s must be %s, not %q", name, wanted[name], value.GetToken().Value)
		} else if k.check != nil {
			if err := k.check(); err != nil {
				r.problem(value.GetToken(), "%v", err)
			}
		}
		return true
	}
	return false
}

// fill is the library's, but that it makes whole numbers of fractions and no
// time at all of what is none.
func fill(value ast.Node, to any) (err error) {
	switch to := to.(type) {
	case *int, *uint64:
		if _, whole := value.(*ast.IntegerNode); !whole {
			return errors.New("not a whole number")
		}
	case *time.Time:
		*to, err = time.Parse(time.RFC3339Nano, value.GetToken().Value)
		return err
	}
	return yaml.NodeToValue(value, to, yaml.Strict())
}

// syntax reports an error of the YAML parser, which stops at the first.
func (r *reader) syntax(err error) {
	var y yaml.Error
	if errors.As(err, &y) {
		r.problem(y.GetToken(), "%s", y.GetMessage())
		return
	}
	r.problem(nil, "%v", err)
}

// wanted says what the values of the keys look like.
var wanted = map[string]string{
	"seed": "a whole number from 0", "start": "a time as 2026-01-02T15:04:05Z", "duration": "a duration such as 500ms or 30s",
	"count": "a whole number from 0", "prefix": "text", "profile": "text", "devices": "a whole number", "first": "a whole number",
	"rate": "a number", "jitter": "a number", "burst": "a whole number", "after": "a duration such as 500ms or 30s",
}

func (r *reader) problem(t *token.Token, format string, args ...any) {
	p := config.Problem{File: r.file, Line: 1, Col: 1, Message: fmt.Sprintf(format, args...)}
	if t != nil && t.Position != nil {
		p.Line, p.Col = max(1, t.Position.Line), max(1, t.Position.Column)
	}
	r.problems = append(r.problems, p)
}
