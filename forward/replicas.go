package forward

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/internal/dial"
)

// replicaCheck is how often the replicas of a stream are looked at.
var replicaCheck = 30 * time.Second

// stuckAfter is for how long a replica may say nothing, although its server is
// there, before it counts as stuck. One that catches up is heard all the time.
const stuckAfter = 10 * time.Second

// StuckReplicas returns the servers whose replica takes nothing any more, and what
// is to be done. The leader goes on without them, and the stream looks well.
func StuckReplicas(info *jetstream.StreamInfo) (names []string, healing string) {
	if info.Cluster == nil {
		return nil, ""
	}
	for _, r := range info.Cluster.Replicas {
		if !r.Current && !r.Offline && r.Active > stuckAfter {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		return nil, ""
	}
	return names, fmt.Sprintf("restart nats-server %s; if the replica does not come back, remove and add it: nats stream edit %s --replicas 1, then --replicas %d"+
		" (with a spare server: nats stream cluster peer-remove %[2]s %[4]s)", strings.Join(names, " and "), info.Config.Name, info.Config.Replicas, names[0])
}

// stateReplicas says which replicas are stuck, when that is news.
func (f *Forwarder) stateReplicas(info *jetstream.StreamInfo) {
	names, healing := StuckReplicas(info)
	text, healing := cut(strings.Join(names, ", ")), cut(healing)
	f.mu.Lock()
	before := f.stuck
	f.stuck = text
	f.mu.Unlock()
	switch {
	case text == before:
	case text == "":
		f.log.Info("every replica of the stream keeps up again", "stream", f.cfg.Stream)
	default:
		f.log.Warn("a replica of the stream takes nothing any more while the others go on: its copy is missing",
			"stream", f.cfg.Stream, "server", text, "hint", healing)
	}
}

// watchReplicas looks at the replicas now and then until it is stopped.
func (f *Forwarder) watchReplicas(ctx context.Context, c *conn) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(replicaCheck)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if info, err := f.lookAt(ctx, c); err == nil { // else the attempt will tell
				f.stateDurability(&info.Config)
				f.stateReplicas(info)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// lookAt returns the stream's state.
func (f *Forwarder) lookAt(ctx context.Context, c *conn) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	defer c.net.Expect(ctx, dial.MaxAnswer)()
	js, err := jetstream.New(c.Conn)
	if err != nil {
		return nil, err
	}
	s, err := js.Stream(ctx, f.cfg.Stream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}
