package decode

import "slices"

// Find is Get that tells null from nothing: ok is false where an Extractor's
// Value is Missing.
func (p Path) Find(doc any) (v any, ok bool, err error) {
	for i, st := range p.steps {
		switch v := doc.(type) {
		case nil:
			return nil, false, nil
		case map[string]any:
			if !st.named {
				_, err := p.misfit(i, "an object")
				return nil, false, err
			}
			if doc, ok = v[st.name]; !ok {
				return nil, false, nil
			}
		case []any:
			if st.named {
				_, err := p.misfit(i, "an array")
				return nil, false, err
			}
			if st.index >= len(v) {
				return nil, false, nil
			}
			doc = v[st.index]
		default:
			_, err := p.misfit(i, kindOf(v))
			return nil, false, err
		}
	}
	return doc, true, nil
}

// Optional says whether a step has a '?'.
func (p Path) Optional() bool {
	return slices.ContainsFunc(p.steps, func(st step) bool { return st.optional })
}

// FirstName is the member of the document that the path begins with, "" if it
// does not begin with one.
func (p Path) FirstName() string {
	if len(p.steps) == 0 || !p.steps[0].named {
		return ""
	}
	return p.steps[0].name
}

// Root says whether the path is '.', the whole document.
func (p Path) Root() bool { return len(p.steps) == 0 }
