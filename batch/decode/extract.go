package decode

// Extractor finds where paths lead in JSON, in one pass, without a tree and
// without allocating. It is for one goroutine. Its size limit is the payload's
// own: nothing is copied.
type Extractor struct {
	MaxDepth int // of arrays and objects; 0: DefaultMaxDepth

	root    *node
	misfits [][]misfit // by path and step
	name    []byte     // the name of a member without its escapes
}

// node is what some paths reach by the same steps.
type node struct {
	ends     []int // paths that end here
	below    []int // paths that go on, through members and elements
	members  []link
	elements []link
	byName   map[string]*node // instead of members, where they are many
	depth    int              // steps from the root
}

type link struct {
	name  string
	index int
	to    *node
}

// manyMembers is where a map beats comparing one name after the other.
const manyMembers = 8

// NewExtractor returns an extractor of paths.
func NewExtractor(paths []Path) *Extractor {
	x := &Extractor{root: &node{}, misfits: make([][]misfit, len(paths))}
	for i, p := range paths {
		at := x.root
		for k, st := range p.steps {
			x.misfits[i] = append(x.misfits[i], misfit{p, k})
			at.below = append(at.below, i)
			at = at.follow(st)
		}
		at.ends = append(at.ends, i)
	}
	return x
}

// follow returns the node behind a step, a new one if no path has taken it.
func (n *node) follow(st step) *node {
	links := &n.elements
	if st.named {
		links = &n.members
	}
	for _, l := range *links {
		if l.name == st.name && l.index == st.index {
			return l.to
		}
	}
	l := link{st.name, st.index, &node{depth: n.depth + 1}}
	*links = append(*links, l)
	if st.named && len(n.members) > manyMembers {
		n.byName = map[string]*node{}
		for _, l := range n.members {
			n.byName[l.name] = l.to
		}
	}
	return l.to
}

// member returns the node behind a name, nil if no path goes there.
func (n *node) member(name []byte) *node {
	if n.byName != nil {
		return n.byName[string(name)]
	}
	for i := range n.members {
		if n.members[i].name == string(name) {
			return n.members[i].to
		}
	}
	return nil
}

// Extract checks the whole of json and sets out[i] to where path i leads. The
// error is that of a payload which is no JSON; a path that does not fit the
// document is a Value of kind Misfit. out has an element for each path and is
// undefined after an error.
func (x *Extractor) Extract(json []byte, out []Value) error {
	s := scanner{b: json, max: x.MaxDepth}
	if s.max == 0 {
		s.max = DefaultMaxDepth
	}
	if err := x.value(&s, x.root, out); err != nil {
		return err
	}
	return s.end()
}

// value reads a value that paths reach or go through, and sets all of them.
func (x *Extractor) value(s *scanner, n *node, out []Value) error {
	c := s.peek()
	start := s.i
	switch c {
	case '{':
		if err := x.object(s, n, out); err != nil {
			return err
		}
	case '[':
		if err := x.array(s, n, out); err != nil {
			return err
		}
	default:
		v, err := s.scalar(c)
		if err != nil {
			return err
		}
		for _, p := range n.ends {
			out[p] = v
		}
		if len(n.below) > 0 {
			x.through(n, v.kind, start, out)
		}
		return nil
	}
	for _, p := range n.ends {
		out[p] = Value{kind: JSON, raw: s.b[start:s.i:s.i], pos: start}
	}
	return nil
}

// through sets the paths that want to go on from a value. What lies behind
// null is null; a member is looked for in an object only, an element in an array.
func (x *Extractor) through(n *node, found Kind, pos int, out []Value) {
	for _, p := range n.below {
		m := &x.misfits[p][n.depth]
		st := &m.path.steps[m.step]
		fits := found == Null || found == objectKind && st.named || found == arrayKind && !st.named
		if fits || st.optional {
			out[p] = Value{}
			continue
		}
		out[p] = Value{kind: Misfit, misfit: m, found: found, pos: pos}
	}
}

// Kinds of Value.found.
const (
	objectKind = Misfit + 1 + iota
	arrayKind
)

func (x *Extractor) object(s *scanner, n *node, out []Value) error {
	x.through(n, objectKind, s.i, out)
	if err := s.open(); err != nil {
		return err
	}
	for first := true; ; first = false {
		name, escaped, ok, err := s.member(first)
		if !ok || err != nil {
			return err
		}
		if escaped {
			x.name = unescaped(x.name[:0], name)
			name = x.name
		}
		if to := n.member(name); to != nil {
			err = x.value(s, to, out)
		} else {
			err = s.skip()
		}
		if err != nil {
			return err
		}
	}
}

func (x *Extractor) array(s *scanner, n *node, out []Value) error {
	x.through(n, arrayKind, s.i, out)
	if err := s.open(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		ok, err := s.element(i == 0)
		if !ok || err != nil {
			return err
		}
		var to *node
		for k := range n.elements {
			if n.elements[k].index == i {
				to = n.elements[k].to
			}
		}
		if to != nil {
			err = x.value(s, to, out)
		} else {
			err = s.skip()
		}
		if err != nil {
			return err
		}
	}
}
