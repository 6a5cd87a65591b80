package main

import (
	"fmt"
	"regexp"
)

// A group is what is measured together, once a round.
type group struct {
	name   string
	rounds int // 0: as many as are asked for
	run    func(*bench, results) error
}

// groups are all there are, in the order of a round.
func (b *bench) groups() (all []group) {
	for _, p := range payloads {
		for _, w := range windows {
			s := shape{p, w}
			all = append(all, group{
				name: fmt.Sprintf("stages/%d/%d", p, w),
				run:  func(b *bench, r results) error { return b.stagesAt(r, s) },
			})
		}
	}
	for _, n := range rates {
		all = append(all, group{name: fmt.Sprintf("rates/%d", n), rounds: b.rateRounds, run: func(b *bench, r results) error { return b.atRate(r, n) }})
	}
	return append(all,
		group{name: "mosquitto", run: (*bench).atBroker},
		group{name: "latency", run: (*bench).paced},
		group{name: "tools", run: (*bench).tools},
		group{name: "routes", run: (*bench).routes},
		group{name: "drain", rounds: 1, run: (*bench).drain},
		group{name: "start", rounds: 1, run: (*bench).startLarge},
	)
}

// runGroups measures the groups that match, round by round, so that what
// changes over time changes all of them.
func (b *bench) runGroups(match *regexp.Regexp, rounds int) (results, error) {
	r := results{}
	for round := range rounds {
		for _, g := range b.groups() {
			if !match.MatchString(g.name) || g.rounds > 0 && round >= g.rounds {
				continue
			}
			b.logf("round %d of %d: %s", round+1, rounds, g.name)
			if err := g.run(b, r); err != nil {
				return r, fmt.Errorf("%s: %w", g.name, err)
			}
		}
	}
	return r, nil
}
