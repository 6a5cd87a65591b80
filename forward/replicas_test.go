package forward

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestStuckReplicas(t *testing.T) {
	info := func(replicas ...*jetstream.PeerInfo) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{Config: jetstream.StreamConfig{Name: "S", Replicas: 3}, Cluster: &jetstream.ClusterInfo{Replicas: replicas}}
	}
	well := &jetstream.PeerInfo{Name: "b", Current: true, Active: time.Second}
	for name, c := range map[string]struct {
		info *jetstream.StreamInfo
		want string
	}{
		"alone":              {&jetstream.StreamInfo{}, "[]"},
		"well":               {info(well, well), "[]"},
		"its server is down": {info(well, &jetstream.PeerInfo{Name: "c", Offline: true, Active: time.Hour}), "[]"},
		"catching up":        {info(well, &jetstream.PeerInfo{Name: "c", Active: time.Second, Lag: 100000}), "[]"},
		"stuck":              {info(well, &jetstream.PeerInfo{Name: "c", Active: time.Minute, Lag: 1}), "[c]"},
	} {
		names, healing := StuckReplicas(c.info)
		if fmt.Sprint(names) != c.want || (len(names) > 0) != strings.Contains(healing, "nats stream edit S --replicas 1, then --replicas 3 (with a spare server: nats stream cluster peer-remove S c)") {
			t.Errorf("%s: %v, %q; want %s", name, names, healing, c.want)
		}
	}
}
