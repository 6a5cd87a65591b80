package access

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/test/servers"
)

const acl = `# rules of clients without a name
topic open/#
topic deny open/secret
topic read ro/x
 topic  write  two words/x

user ann
topic write ann/+/up
topic readwrite ann/#
topic deny ann/secret/#
topic $odd/x
user bob
topic write bob/up
user ann
topic write later/ann
pattern write own/%c/data
pattern readwrite users/%u/#
pattern deny users/+/no
pattern write part/x%c
topic read after/pattern
`

// TestACL compares every decision with that of a real Mosquitto that has read the same file.
func TestACL(t *testing.T) {
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "acl"), acl+"user all\ntopic #\ntopic $odd/#\n")
	m, err := servers.StartMosquitto(dir, "acl_file "+path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	f, err := OpenACL(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	topics := []string{
		"open/x", "open/secret", "open", "ro/x", "two words/x", "ann/1/up", "ann/secret/up", "ann/x", "ann", "$odd/x", "bob/up", "bob/down", "later/ann",
		"own/c1/data", "own/c2/data", "own/+c/data", "users/ann/x", "users/ann", "users/bob/no", "users/bob/x/no", "users//x", "after/pattern", "other",
	}
	for _, who := range []struct{ user, id string }{{"", "c1"}, {"ann", "c1"}, {"bob", "c2"}, {"stranger", "c1"}, {"users/ann", "a/b"}, {"ann", "+c"}, {"#", "c1"}} {
		rights := f.Get(0).For(who.user, who.id)
		passed := published(t, m.Addr, who.user, who.id, topics)
		for _, topic := range topics {
			if got := rights.May(Write, []byte(topic)); got != passed[topic] {
				t.Errorf("user %q, client %q may write %s: %v, Mosquitto says %v", who.user, who.id, topic, got, passed[topic])
			}
		}
	}
	for topic, want := range map[string]bool{"open/x": true, "ro/x": true, "two words/x": false, "open/secret": false} {
		if got := f.Get(0).For("", "c1").May(Read, []byte(topic)); got != want {
			t.Errorf("anyone may read %s: %v, want %v", topic, got, want)
		}
	}
}

// published says which topics a user could publish to.
func published(t *testing.T, addr, user, id string, topics []string) map[string]bool {
	t.Helper()
	got := map[string]bool{}
	end := make(chan struct{})
	dial := func(o client.Options) *client.Client {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		o.Version, o.CleanStart = client.Version311, true
		c, err := client.Connect(context.Background(), nc, o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	all := dial(client.Options{ClientID: "all", Username: "all", Receive: func(m *client.Received) error {
		if string(m.Payload) == "end" {
			close(end)
		} else {
			got[string(m.Topic)] = true
		}
		return nil
	}})
	defer all.Close()
	if _, err := all.Subscribe(context.Background(), []client.Filter{{Topic: "#"}, {Topic: "$odd/#"}}, nil); err != nil {
		t.Fatal(err)
	}
	c := dial(client.Options{ClientID: id, Username: user})
	for i, topic := range topics {
		if strings.ContainsAny(topic, "+#") {
			continue
		}
		if _, err := c.Publish(&client.Message{Topic: topic, QoS: 1, Payload: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := all.Publish(&client.Message{Topic: "end", QoS: 1, Payload: []byte("end")}); err != nil {
		t.Fatal(err)
	}
	all.Flush()
	select {
	case <-end:
	case <-time.After(10 * time.Second):
		t.Fatal("the last message does not come within 10 s")
	}
	return got
}

// TestBrokenACL: a broken line is refused with its number.
func TestBrokenACL(t *testing.T) {
	for line, want := range map[string]string{
		"topic a b":         `"a" is none of read, write, readwrite and deny`,
		"topic write":       "",
		"topic":             "topic filter must not be empty",
		"topic read a/#/b":  "only at the end",
		"pattern write a+":  "whole levels",
		"user":              "user without a name",
		"user  ann smith":   "",
		"users ann":         `"users" is none of`,
		"topic read \xff":   "UTF-8",
		"  # no comment":    `"#" is none of`,
		"\ttopic a":         "is none of",
		"topic write a\r":   "",
		"TOPIC write a":     "is none of",
		"topic deny  a/b  ": "",
	} {
		path := write(t, filepath.Join(t.TempDir(), "acl"), "topic a\n\n"+line+"\n")
		_, err := OpenACL(path, nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+":3: ")) {
			t.Errorf("%q: %v, want %q of line 3", line, err, want)
		}
	}
}
