package forward

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// startCluster starts three JetStream servers that know each other.
func startCluster(t *testing.T) []*embedded.NATS {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	nodes := make([]*embedded.NATS, 3)
	for i := range nodes {
		nodes[i] = startNATS(t, func(o *server.Options) {
			o.ServerName = string(rune('a' + i))
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}
			o.Routes = routes
		})
	}
	return nodes
}

// wantPlainAck holds the answer to a message that is in the stream to have the short form.
func wantPlainAck(t *testing.T, url string) {
	t.Helper()
	nc, js := admin(t, url)
	if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request("other", nil, apiTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if plainAck(m.Data, "OTHER") != 1 {
		t.Errorf("the short way does not read %s", m.Data)
	}
}

// The answers of both kinds of servers are read the short way.
func TestPlainAckOfAServer(t *testing.T) { wantPlainAck(t, startNATS(t).URL()) }

// Three replicas, and the connection, the stream's leader with luck, lost in
// mid-stream.
func TestClusterLosesANode(t *testing.T) {
	nodes := startCluster(t)
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.URL())
	}
	_, js := admin(t, urls[2])
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: "TELEMETRY", Subjects: []string{"mqtt.>"}, Replicas: 3, Duplicates: 100 * time.Millisecond})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		waitTick(t)
	}
	l := newMemLog()
	l.grow(10000)
	r := forward(t, strings.Join(urls, ","), l)
	l.await(t, 3000)
	r.log.await(t, "majority of 3 replicas")
	wantPlainAck(t, urls[2])
	s, err := js.Stream(t.Context(), "TELEMETRY")
	if err != nil {
		t.Fatal(err)
	}
	leader := s.CachedInfo().Cluster.Leader
	survivor := 0
	for i, n := range nodes {
		if leader == string(rune('a'+i)) {
			n.Stop()
			survivor = (i + 1) % 3
		}
	}
	l.await(t, 10000)
	l.grow(1000)
	l.await(t, 11000)
	wantExactly(t, urls[survivor], span{1, mqttetl.Seq(11000)})
}
