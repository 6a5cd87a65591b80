package transform

import "github.com/mqttetl/mqttetl"

// Filters are topic filters that let pass what the routes take, and perhaps more.
func (s *Set) Filters() []mqttetl.Filter {
	list := make([]mqttetl.Filter, len(s.routes))
	for i, r := range s.routes {
		list[i] = r.pattern.filter()
	}
	return list
}

// Takes says whether a route looks at messages of the topic.
func (a *Applier) Takes(topic []byte) bool {
	list, ok := a.topics[string(topic)]
	if !ok {
		list = a.match(string(topic))
	}
	return len(list) > 0
}
