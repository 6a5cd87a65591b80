package prove

import (
	"context"
	"fmt"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/test/e2e"
)

// jqBombs: small messages of which the jq of a route makes what no process can
// hold. Each is a dead letter, and the rows of the others are there.
var jqBombs = attack{
	name: "messages that end the process of jq",
	prepare: func(h *hostile) error {
		h.setup.settings.Routes += "routes:\n"
		for kind, program := range jqPrograms {
			h.setup.settings.Routes += fmt.Sprintf("  - {name: %s, topic: 'jq/%[1]s', map: '{x: (%s)}', table: bomb_%[1]s, columns: {x: ANY}}\n", kind, program)
		}
		return h.lyingBroker("jq", func(_ context.Context, p *peer) error {
			if err := p.greet(); err != nil {
				return err
			}
			id := uint16(0)
			for kind := range jqPrograms {
				for i := range 3 {
					id++
					if err := p.publish(id, "jq/"+kind, nil, []byte(jqPayload(i, kind))); err != nil {
						return err
					}
				}
			}
			return p.answers()
		})
	},
	run: func(ctx context.Context, h *hostile) error {
		for kind := range jqPrograms {
			for i := range 3 {
				if err := h.holds(ctx, "jq/"+kind, jqPayload(i, kind)); err != nil {
					return fmt.Errorf("%s: %w", kind, err)
				}
			}
			dead, err := e2e.DeadLetters(h.Archive(), mqttetl.TransformStage(kind))
			if err != nil {
				return err
			}
			if len(dead) == 0 {
				h.violate("the bomb %s is no dead letter", kind)
			}
		}
		return nil
	},
}

var jqPrograms = map[string]string{
	"nested": "[.n as $n | reduce range($n) as $i (0; [.]) | . == .]",
	"long":   `"s" * .n | length`,
	"sparse": "[.n as $n | [] | .[$n] = 1 | length]",
	"wide":   `[range(.n) as $i | "s" * 20000000] | length`,
	"slow":   "[range(.n)] as $a | ($a - ($a | map(-1 - .)) | length)",
}

// jqPayload is a bomb between two messages that are none.
func jqPayload(i int, kind string) string {
	n := 1 + i
	if i == 1 {
		n = map[string]int{"nested": 400_000, "long": 500_000_000, "sparse": 500_000_000, "wide": 40, "slow": 100_000}[kind]
	}
	return fmt.Sprintf(`{"n":%d}`, n)
}
