package prove

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/test/e2e"
)

// birthFlood: nodes of Sparkplug that nobody has, each with many metrics. What
// they have declared is known afterwards, and is not in memory.
var birthFlood = attack{
	name: "Sparkplug births of hundreds of nodes with thousands of metrics",
	prepare: func(h *hostile) error {
		if h.setup.settings.Routes == "" {
			h.setup.settings.Routes = "routes:\n"
		}
		h.setup.settings.Routes += "  - {name: births, topic: 'spBv1.0/births/+/{edge}', decode: sparkplug_b, table: births_of, when: '.message == \"NDATA\"', columns: {metric: TEXT}}\n"
		h.source("births", "url: \"{broker}\"")
		h.setup.settings.Sources = strings.ReplaceAll(h.setup.settings.Sources, `"births/#"`, `"spBv1.0/births/#"`)
		return nil
	},
	run: func(ctx context.Context, h *hostile) error {
		topic := func(i int64) string { return fmt.Sprintf("spBv1.0/births/NBIRTH/n%d", i) }
		payload := func(i int64) string { return bornPayload(i, "a metric", 5000) }
		const data, seen = "spBv1.0/births/NDATA/n0", 400
		p := &e2e.Publisher{Broker: h.broker.URL, Run: "births", QoS: 1, Workers: 1,
			Topic: func(i int64) string {
				if i == seen {
					return data
				}
				return topic(i)
			},
			Payload: func(i int64) string {
				if i == seen {
					return bornPayload(i, "", 1)
				}
				return payload(i)
			}}
		if err := p.Publish(ctx, seen+1); err != nil {
			return err
		}
		if err := h.holds(ctx, data, bornPayload(seen, "", 1)); err != nil {
			return err
		}
		db, err := sql.Open("sqlite", "file:"+h.Archive()+"?mode=ro&_pragma=busy_timeout(5000)")
		if err != nil {
			return err
		}
		defer db.Close()
		var rows int
		if err := db.QueryRow(`SELECT count(*) FROM births_of WHERE edge = 'n0' AND metric = 'a metric 0'`).Scan(&rows); err != nil {
			return err
		}
		dead, err := e2e.DeadLetters(h.Archive(), mqttetl.TransformStage("births")) // on a slow machine the route is suspended
		if err == nil && rows == 0 && len(dead) == 0 {
			h.violate("data of a node whose birth came 400 births ago have no row and are no dead letter")
		}
		return err
	},
}

// bornPayload is message i: metrics of type Double by name and alias, or by alias alone.
func bornPayload(i int64, name string, metrics int) string {
	p := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(1_767_642_776_000+i))
	for k := range metrics {
		var m []byte
		if name != "" {
			m = protowire.AppendString(protowire.AppendTag(m, 1, protowire.BytesType), fmt.Sprintf("%s %d", name, k))
			m = protowire.AppendVarint(protowire.AppendTag(m, 4, protowire.VarintType), 10)
		}
		m = protowire.AppendVarint(protowire.AppendTag(m, 2, protowire.VarintType), uint64(k))
		m = protowire.AppendFixed64(protowire.AppendTag(m, 13, protowire.Fixed64Type), 0)
		p = protowire.AppendBytes(protowire.AppendTag(p, 2, protowire.BytesType), m)
	}
	return string(p)
}
