package forward

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/test/servers"
)

// startThree starts three servers of this module's version, as processes.
func startThree(t *testing.T) *servers.NATSCluster {
	t.Helper()
	c, err := servers.StartNATSCluster(t.Context(), t.TempDir(), 3, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// members returns the stream's leader and the other replicas.
func members(t *testing.T, c *servers.NATSCluster, js jetstream.JetStream) (leader *servers.NATSNode, others []*servers.NATSNode) {
	t.Helper()
	for {
		s, err := js.Stream(t.Context(), "TELEMETRY")
		if err == nil && s.CachedInfo().Cluster.Leader != "" {
			for _, r := range s.CachedInfo().Cluster.Replicas {
				others = append(others, c.Node(r.Name))
			}
			return c.Node(s.CachedInfo().Cluster.Leader), others
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		waitTick(t)
	}
}

// stepDown has the stream elect another leader. Nobody answers while there is none.
func stepDown(t *testing.T, nc *nats.Conn) {
	t.Helper()
	for {
		_, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN.TELEMETRY", nil, 5*time.Second)
		if err == nil {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		waitTick(t)
	}
}

// wantEqual waits until every server has the same messages on its disk: the
// records from 1 to last, in order, each once.
func wantEqual(t *testing.T, c *servers.NATSCluster, last mqttetl.Seq) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all, err := c.Equal(ctx, "TELEMETRY")
	if err != nil {
		t.Fatal(err)
	}
	want := mqttetl.Seq(1)
	for _, m := range all {
		h, err := nats.DecodeHeadersMsg([]byte(m.Header))
		if err != nil {
			t.Fatal(err)
		}
		if seq, ok := natsmsg.ParseMsgID(h.Get(natsmsg.HeaderMsgID), testLogID); !ok || seq != want {
			t.Fatalf("message %d is record %d (%q), want %d", m.Seq, seq, h.Get(natsmsg.HeaderMsgID), want)
		}
		want++
	}
	if want != last+1 {
		t.Fatalf("the stream ends with record %d, want %d", want-1, last)
	}
}

// heavy are n records of 4 KiB: after 8 MiB the leader compacts its Raft log, and
// whoever was away has to catch up from its stream.
func heavy(l *memLog, n int) {
	first := int(l.last()) + 1
	for i := range n {
		r := record(first + i)
		r.Payload = []byte(strings.Repeat("x", 4096))
		l.add(r)
	}
}

// A follower is away for so long that it has to catch up from its leader; then
// it is wiped; and leaders step down meanwhile.
func TestReplicasThatCatchUp(t *testing.T) {
	c := startThree(t)
	nc, js := admin(t, c.URL())
	createStream(t, js, func(sc *jetstream.StreamConfig) { sc.Replicas, sc.Duplicates = 3, 100*time.Millisecond })
	l := newMemLog()
	heavy(l, 100)
	forward(t, c.URL(), l)
	l.await(t, 100)
	_, others := members(t, c, js)
	for i, harm := range []func(*servers.NATSNode) error{
		(*servers.NATSNode).Stop,
		func(n *servers.NATSNode) error { return errors.Join(n.Kill(), n.Wipe()) },
	} {
		if err := harm(others[i]); err != nil {
			t.Fatal(err)
		}
		heavy(l, 4000)
		l.await(t, l.last())
		if err := others[i].Restart(); err != nil {
			t.Fatal(err)
		}
		heavy(l, 500)
		l.await(t, l.last())
		wantEqual(t, c, l.last())
	}
	for range 10 {
		heavy(l, 500)
		stepDown(t, nc)
		l.await(t, l.last()-250)
	}
	l.await(t, l.last())
	wantEqual(t, c, l.last())
}

// A stream is given two more replicas while it is written to.
func TestReplicasAddedUnderLoad(t *testing.T) {
	c := startThree(t)
	_, js := admin(t, c.URL())
	s := createStream(t, js, func(sc *jetstream.StreamConfig) { sc.Duplicates = 100 * time.Millisecond })
	l := newMemLog()
	heavy(l, 3000)
	r := forward(t, c.URL(), l)
	l.await(t, 500)
	sc := s.CachedInfo().Config
	sc.Replicas = 3
	if _, err := js.UpdateStream(t.Context(), sc); err != nil {
		t.Fatal(err)
	}
	heavy(l, 3000)
	l.await(t, 6000)
	wantEqual(t, c, 6000)
	if !r.Stats().Connected {
		t.Errorf("Stats: %+v", r.Stats())
	}
}

// A replica that the chain of earlier builds, in which each message names the record
// before it, has stopped for good is named, with what is to be done, and that helps.
func TestStuckReplicaIsNamedAndHealed(t *testing.T) {
	every, may := replicaCheck, mayReplicate
	t.Cleanup(func() { replicaCheck, mayReplicate = every, may })
	replicaCheck, mayReplicate = time.Second, func(*jetstream.StreamInfo) bool { return false }
	c := startThree(t)
	_, js := admin(t, c.URL())
	createStream(t, js, func(sc *jetstream.StreamConfig) { sc.Replicas = 3 })
	l := newMemLog()
	heavy(l, 100)
	r := forward(t, c.URL(), l)
	l.await(t, 100)
	_, others := members(t, c, js)
	if err := others[0].Stop(); err != nil {
		t.Fatal(err)
	}
	heavy(l, 4000)
	l.await(t, 4100)
	if err := others[0].Restart(); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(others[0].Printed(), "critical write error") {
		heavy(l, 100)
		l.await(t, l.last())
	}
	r.stop(t)
	mayReplicate = may
	r = forward(t, c.URL(), l)
	heavy(l, 100)
	l.await(t, l.last())
	r.log.await(t, "restart nats-server "+others[0].Name)
	if err := errors.Join(others[0].Stop(), others[0].Restart()); err != nil {
		t.Fatal(err)
	}
	heavy(l, 500)
	l.await(t, l.last())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Equal(ctx, "TELEMETRY"); err != nil { // its Raft log still holds messages of the chain
		t.Logf("the restart did not help (%v): removing and adding the replica", err)
		for _, n := range []int{1, 3} {
			scale(t, js, n)
		}
	}
	wantEqual(t, c, l.last())
	r.log.await(t, "every replica of the stream keeps up again")
}

// scale gives the stream so many replicas.
func scale(t *testing.T, js jetstream.JetStream, n int) {
	t.Helper()
	s, err := js.Stream(t.Context(), "TELEMETRY")
	if err != nil {
		t.Fatal(err)
	}
	sc := s.CachedInfo().Config
	sc.Replicas = n
	for {
		if s, err = js.UpdateStream(t.Context(), sc); err == nil && s.CachedInfo().Cluster != nil && len(s.CachedInfo().Cluster.Replicas) == n-1 {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		waitTick(t)
	}
}

// What routes make is published to replicas that go and come back, once each.
func TestMappedObjectsOnReplicas(t *testing.T) {
	c := startThree(t)
	nc, js := admin(t, c.URL())
	createStream(t, js, func(sc *jetstream.StreamConfig) { sc.Subjects, sc.Replicas = []string{"out.*"}, 3 })
	l := newMemLog()
	l.grow(10_000)
	mapped(t, c.URL(), l, pairs{"out"}, "out.*")
	l.await(t, 2000)
	_, others := members(t, c, js)
	if err := errors.Join(others[0].Kill(), others[0].Wipe()); err != nil {
		t.Fatal(err)
	}
	l.await(t, 6000)
	if err := others[0].Restart(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		stepDown(t, nc)
		l.grow(1000)
		l.await(t, l.last()-500)
	}
	l.await(t, l.last())
	wantPairs(t, c.URL(), "TELEMETRY", "out", int(l.last()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Equal(ctx, "TELEMETRY"); err != nil {
		t.Error(err)
	}
}
