package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

const (
	// clusterPayload has the leader compact its Raft log (at 8 MiB) after some
	// thousand messages: whoever was away then has to catch up from its stream.
	clusterPayload = 4096
	// clusterWorkers keep many messages in flight when a leader goes.
	clusterWorkers = 64
	clusterRate    = 1500
	// equalTime is how long the replicas may take to hold the same.
	equalTime = 45 * time.Second
	// strange is what the other writer publishes to.
	strange = "mqtt.strange"
)

func clusterCampaign() *Campaign {
	return &Campaign{
		Name: "cluster",
		Injects: "three nats-servers 2.15, a stream with three replicas (or one, made three under load): followers stopped, killed, wiped and brought " +
			"back, some after so long that they catch up from their leader; leaders stepped down or killed; another writer; mqttetl killed; what it sent on a dead connection arriving late. " +
			"Afterwards the files of every server hold the same messages",
		Short: 3, Long: 300,
		Run: runCluster,
		Controls: []Control{
			{Name: "each message names the one before it (Nats-Expected-Last-Msg-Id)", Replace: map[string][2]string{
				"forward/stream.go": {`return info.Cluster != nil && info.Cluster.Name != ""`, "return false"},
			}, Setting: only("away"), Trials: 10},
			{Name: "no message says what it must follow", Replace: map[string][2]string{
				"internal/natsmsg/header.go": {"c.header = strconv.AppendUint(c.name(HeaderLastSeq), before.Stream, 10)", "_ = HeaderLastSeq"},
			}, Setting: only("late"), Trials: 10},
			{Name: "nobody looks for what another writer has displaced", Replace: map[string][2]string{
				"forward/position.go": {"if w.named || w.gaps == 0 || !p.mine {", "if true {"},
			}, Setting: only("writer"), Trials: 40},
		},
	}
}

// clusterFault is what may happen to a cluster under load.
type clusterFault struct {
	name string
	run  func(*clusterWorld, context.Context) error
}

var clusterFaults = []clusterFault{
	{"away", (*clusterWorld).away},
	{"wiped", (*clusterWorld).wiped},
	{"leader", (*clusterWorld).stepDown},
	{"killed", (*clusterWorld).leaderKilled},
	{"writer", (*clusterWorld).otherWriter},
	{"mqttetl", (*clusterWorld).serviceKilled},
	{"late", (*clusterWorld).late},
}

// errNotWhole is a finding: a replica has not come back.
var errNotWhole = errors.New("replicas that do not catch up")

// clusterWorld is a world whose NATS is a cluster, which outlives it.
type clusterWorld struct {
	*world
	cluster *servers.NATSCluster
	paths   []*servers.Proxy // from mqttetl to its servers
	nc      *nats.Conn
	js      jetstream.JetStream
	rnd     *rand.Rand
	long    bool // followers are away for long
	shared  bool // there was another writer
}

// runCluster makes the trials on one cluster, each with a stream of its own.
func runCluster(ctx context.Context, e Env) (Tally, error) {
	c, err := servers.StartNATSCluster(ctx, e.Dir, 3, "")
	if err != nil {
		return Tally{}, err
	}
	defer c.Kill()
	var paths []*servers.Proxy
	var urls []string
	for _, n := range c.Nodes {
		p, err := servers.StartProxy(n.Addr())
		if err != nil {
			return Tally{}, err
		}
		defer p.Close()
		paths, urls = append(paths, p), append(urls, "nats://"+p.Addr)
	}
	nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		return Tally{}, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return Tally{}, err
	}
	return eachTrial(ctx, e, func(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) error {
		w, err := newWorld(e.Bin, setup{dir: dir, cluster: strings.Join(urls, ",")})
		if err != nil {
			return err
		}
		defer w.close()
		w.pub.Size, w.pub.Workers, w.pub.Rate = clusterPayload, clusterWorkers, clusterRate
		return (&clusterWorld{world: w, cluster: c, paths: paths, nc: nc, js: js, rnd: rnd, long: e.Only == "away"}).trial(ctx, e, t)
	})
}

// trial lets one or two faults happen, and counts.
func (w *clusterWorld) trial(ctx context.Context, e Env, t *Tally) error {
	replicas := 3
	if e.Only == "" && w.rnd.IntN(5) == 0 {
		replicas = 1
	}
	if err := w.newStream(ctx, replicas); err != nil {
		return err
	}
	if err := w.start(ctx); err != nil {
		return err
	}
	stop := w.publish(ctx)
	defer stop()
	if err := w.more(ctx, 200); err != nil {
		return err
	}
	happened := []string{fmt.Sprintf("%d replicas at first", replicas)}
	if replicas == 1 {
		if err := w.scale(ctx, 3); err != nil {
			return err
		}
	}
	for range 1 + w.rnd.IntN(2) {
		f := clusterFaults[w.rnd.IntN(len(clusterFaults))]
		if i := slices.IndexFunc(clusterFaults, func(f clusterFault) bool { return f.name == e.Only }); i >= 0 {
			f = clusterFaults[i]
		}
		happened = append(happened, f.name)
		if err := f.run(w, ctx); errors.Is(err, errNotWhole) {
			t.Violate("trial %d (seed %d), %s: %v", t.Trials, e.Seed+uint64(t.Trials), strings.Join(happened, ", "), err)
			return nil
		} else if err := errors.Join(err, w.more(ctx, w.rnd.IntN(200))); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(happened, ", "), err)
		}
	}
	stop()
	return w.compare(ctx, t, fmt.Sprintf("trial %d (seed %d), %s", t.Trials, e.Seed+uint64(t.Trials), strings.Join(happened, ", ")))
}

// newStream makes the stream of a trial. The servers forget ids at once, so that
// nothing but what mqttetl does keeps copies out.
func (w *clusterWorld) newStream(ctx context.Context, replicas int) error {
	return w.insist(ctx, "make the stream", func(ctx context.Context) error {
		if err := w.js.DeleteStream(ctx, "E2E"); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		_, err := w.js.CreateStream(ctx, jetstream.StreamConfig{Name: "E2E", Subjects: []string{"mqtt.>"}, Replicas: replicas, Duplicates: 100 * time.Millisecond})
		return err
	})
}

// scale changes the number of replicas.
func (w *clusterWorld) scale(ctx context.Context, replicas int) error {
	return w.insist(ctx, "scale the stream", func(ctx context.Context) error {
		s, err := w.js.Stream(ctx, "E2E")
		if err != nil {
			return err
		}
		sc := s.CachedInfo().Config
		sc.Replicas = replicas
		_, err = w.js.UpdateStream(ctx, sc)
		return err
	})
}

// insist repeats f while the cluster has no leader for it.
func (w *clusterWorld) insist(ctx context.Context, what string, f func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := f(once)
		cancel()
		if err == nil {
			return nil
		}
		if !backoff.Pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		}
	}
}

// whole waits until all replicas are there and current, and returns the leader
// and the followers: a cluster bears one fault at a time.
func (w *clusterWorld) whole(ctx context.Context) (leader *servers.NATSNode, followers []*servers.NATSNode, err error) {
	wait, cancel := context.WithTimeout(ctx, equalTime)
	defer cancel()
	err = w.insist(wait, "await the replicas", func(ctx context.Context) error {
		s, err := w.js.Stream(ctx, "E2E")
		if err != nil {
			return err
		}
		c := s.CachedInfo().Cluster
		if leader = w.cluster.Node(c.Leader); leader == nil || len(c.Replicas) != 2 {
			return fmt.Errorf("leader %q, %d followers", c.Leader, len(c.Replicas))
		}
		followers = nil
		for _, r := range c.Replicas {
			if !r.Current || r.Offline {
				return fmt.Errorf("replica %s is not current", r.Name)
			}
			followers = append(followers, w.cluster.Node(r.Name))
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errNotWhole, err)
	}
	return leader, followers, err
}

// end stops or kills a server.
func (w *clusterWorld) end(n *servers.NATSNode) error {
	if w.rnd.IntN(2) == 0 {
		return n.Stop()
	}
	return n.Kill()
}

// away: a follower misses some messages.
func (w *clusterWorld) away(ctx context.Context) error {
	_, followers, err := w.whole(ctx)
	if err != nil {
		return err
	}
	n, missed := followers[w.rnd.IntN(2)], 50+w.rnd.IntN(300)
	if w.long || w.rnd.IntN(4) == 0 {
		missed = 2300
	}
	return errors.Join(w.end(n), w.more(ctx, missed), n.Restart())
}

// wiped: a follower comes back with nothing. All is well again at the end: until
// then a majority may be without what was acknowledged.
func (w *clusterWorld) wiped(ctx context.Context) error {
	_, followers, err := w.whole(ctx)
	if err != nil {
		return err
	}
	n := followers[w.rnd.IntN(2)]
	if err := errors.Join(w.end(n), n.Wipe(), w.more(ctx, w.rnd.IntN(200)), n.Restart(), w.more(ctx, 50)); err != nil {
		return err
	}
	_, _, err = w.whole(ctx)
	return err
}

// stepDown: others take the lead, some times.
func (w *clusterWorld) stepDown(ctx context.Context) error {
	for range 1 + w.rnd.IntN(4) {
		err := w.insist(ctx, "step down", func(ctx context.Context) error {
			_, err := w.nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN.E2E", nil)
			return err
		})
		if err := errors.Join(err, w.more(ctx, w.rnd.IntN(200))); err != nil {
			return err
		}
	}
	return nil
}

// leaderKilled: the leader is gone for a while.
func (w *clusterWorld) leaderKilled(ctx context.Context) error {
	leader, _, err := w.whole(ctx)
	if err != nil {
		return err
	}
	return errors.Join(w.end(leader), w.more(ctx, 50+w.rnd.IntN(300)), leader.Restart())
}

// otherWriter: somebody else publishes to the stream; mqttetl may be killed meanwhile.
func (w *clusterWorld) otherWriter(ctx context.Context) error {
	w.shared = true
	killed := w.rnd.IntN(40)
	for i := range 20 {
		if err := errors.Join(w.nc.Publish(strange, []byte("x")), w.more(ctx, w.rnd.IntN(40))); err != nil {
			return err
		}
		if i == killed {
			if err := w.serviceKilled(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// late: the connection to NATS dies without a word, and what was sent on it
// arrives when another one has long taken over.
func (w *clusterWorld) late(ctx context.Context) error {
	silent := servers.Weather{HoldUp: true}
	var held *servers.Proxy
	for _, p := range w.paths {
		if p.Connections() > 0 {
			held = p
		}
	}
	if held == nil {
		return nil // it is connecting again
	}
	defer held.Set(servers.Weather{})
	held.Set(silent)
	before, err := w.Status(ctx)
	if err != nil {
		return err
	}
	_, err = w.Await(ctx, "another connection to NATS", func(s service.Status) bool {
		return s.NATS != nil && s.NATS.Cursor > before.NATS.Cursor+200
	})
	return err
}

func (w *clusterWorld) serviceKilled(ctx context.Context) error {
	w.Kill()
	return w.start(ctx)
}

// compare lets everything drain and compares the servers' files with each other
// and with the archive.
func (w *clusterWorld) compare(ctx context.Context, t *Tally, trial string) error {
	rows, err := w.settled(ctx, t, trial)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, equalTime)
	defer cancel()
	all, err := w.cluster.Equal(wait, "E2E")
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		t.Violate("%s: the replicas are not equal: %v", trial, err)
		return nil
	}
	stream, late, err := ours(all)
	if err != nil {
		return err
	}
	if len(late) > 0 && !w.shared {
		t.Violate("%s: %s is late, and there was no other writer", trial, late[0].ID)
	}
	if err := e2e.CheckSame(rows, inTurn(stream, late)); err != nil {
		t.Violate("%s: stream: %v", trial, err)
	}
	w.count(t, trial, rows, append(stream, late...), false)
	return nil
}

// ours are the messages that are not of the other writer: those in their place,
// and those that say that they come late.
func ours(all []servers.StoredMessage) (stream, late []e2e.Streamed, err error) {
	for _, m := range all {
		if m.Subject == strange {
			continue
		}
		h, err := nats.DecodeHeadersMsg([]byte(m.Header))
		if err != nil {
			return nil, nil, fmt.Errorf("message %d of the stream: %w", m.Seq, err)
		}
		s := e2e.Streamed{ID: h.Get(jetstream.MsgIDHeader), Subject: m.Subject, Payload: m.Body}
		if h.Get(natsmsg.HeaderLate) != "" {
			late = append(late, s)
		} else {
			stream = append(stream, s)
		}
	}
	return stream, late, nil
}

// inTurn puts the late ones where they belong.
func inTurn(stream, late []e2e.Streamed) []e2e.Streamed {
	number := func(m e2e.Streamed) int {
		_, digits, _ := strings.Cut(m.ID, "-")
		n, _ := strconv.Atoi(digits)
		return n
	}
	turn := slices.Clone(stream)
	for _, m := range late {
		i, _ := slices.BinarySearchFunc(turn, m, func(a, b e2e.Streamed) int { return number(a) - number(b) })
		turn = slices.Insert(turn, i, m)
	}
	return turn
}
