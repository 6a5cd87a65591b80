package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

// listening is a service that devices connect to, at addr, and nothing else. keys are
// further ones of its listener.
func listening(t *testing.T, bin, keys string) (svc *service.Service, addr string) {
	t.Helper()
	addr, err := servers.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	if svc, err = service.Bare(bin, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	err = svc.Configure(fmt.Sprintf("listen:\n  - {url: 'mqtt://%s', %s}\nlog: {dir: %s}\narchive: {path: %s}\nhttp: {listen: '%s'}\n",
		addr, keys, svc.LogDir(), svc.Archive(), svc.HTTP))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		svc.Kill()
		if t.Failed() {
			t.Logf("mqttetl wrote:\n%s", svc.Output())
		}
	})
	return svc, addr
}

// TestListen: mosquitto_pub of every version and QoS, and a Mosquitto as a bridge,
// publish into a listener; who has no password or no right does not.
func TestListen(t *testing.T) {
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	users, acl := filepath.Join(dir, "users"), filepath.Join(dir, "acl")
	if err := os.WriteFile(acl, []byte("user ann\ntopic write clients/#\ntopic write bridged/#\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mosquitto_passwd", "-c", "-b", users, "ann", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v %s", err, out)
	}
	svc, addr := listening(t, bin, "password_file: "+users+", acl_file: "+acl)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := svc.Start(); err != nil {
		t.Fatal(err)
	}
	if err := svc.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	pub := func(args ...string) error {
		all := append([]string{"-h", host, "-p", port}, args...)
		if out, err := exec.CommandContext(ctx, "mosquitto_pub", all...).CombinedOutput(); err != nil {
			return fmt.Errorf("mosquitto_pub %v: %w, %s", args, err, out)
		}
		return nil
	}
	want := map[string]string{}
	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		for _, qos := range []string{"0", "1", "2"} {
			topic := "clients/" + version + "/" + qos
			if err := pub("-u", "ann", "-P", "secret", "-V", version, "-q", qos, "-t", topic, "-m", "it is "+qos); err != nil {
				t.Error(err)
			}
			want[topic] = "it is " + qos
		}
	}
	if err := pub("-u", "ann", "-P", "guess", "-q", "1", "-t", "clients/x", "-m", "no"); err == nil {
		t.Error("a wrong password is taken")
	}
	if err := pub("-q", "1", "-t", "clients/x", "-m", "no"); err == nil {
		t.Error("a client without a user name is let in")
	}
	if err := pub("-u", "ann", "-P", "secret", "-V", "mqttv5", "-q", "1", "-t", "other/x", "-m", "no"); err != nil {
		t.Error(err) // mosquitto_pub says it on its standard error only
	}

	broker, err := servers.StartMosquitto(t.TempDir(), "connection door\naddress "+addr+"\nremote_username ann\nremote_password secret\ncleansession false\ntopic # out 1\n")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Kill()
	_, port, _ = net.SplitHostPort(broker.Addr)
	for i := range 20 {
		topic := fmt.Sprintf("bridged/%d", i)
		want[topic] = fmt.Sprint(i)
	}
	lines := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf("for i in $(seq 0 19); do mosquitto_pub -h %s -p %s -q 1 -t bridged/$i -m $i; done", host, port))
	if out, err := lines.CombinedOutput(); err != nil {
		t.Fatalf("publish to the bridge: %v, %s", err, out)
	}
	if _, err := svc.Drained(ctx, len(want)); err != nil {
		t.Fatal(err)
	}
	rows, err := ReadArchive(svc.Archive())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if want[r.Topic] != r.Payload {
			t.Errorf("%s = %q was not published", r.Topic, r.Payload)
		}
		delete(want, r.Topic)
	}
	if len(want) > 0 {
		t.Errorf("%d are missing: %v", len(want), want)
	}
	if took, err := svc.Stop(); err != nil || took > time.Second {
		t.Errorf("the service stops with %v, after %v", err, took)
	}
}

// TestListenKilled: every PUBACK that a device has read is a record, whenever the
// service is killed. A service that acknowledges early is found out.
func TestListenKilled(t *testing.T) {
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	if lost, acked := lostByKills(t, bin); lost > 0 {
		t.Errorf("%d of %d acknowledged messages are lost", lost, acked)
	}
	early, err := service.Build(t.Context(), t.TempDir(), EarlyAck)
	if err != nil {
		t.Fatal(err)
	}
	if lost, acked := lostByKills(t, early); lost == 0 {
		t.Errorf("a service that acknowledges early loses none of %d messages: the test finds nothing", acked)
	}
}

// lostByKills counts what devices have read a PUBACK for, and the archive has not.
func lostByKills(t *testing.T, bin string) (lost, acked int) {
	svc, addr := listening(t, bin, "anonymous: true")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	devices := Publisher{Broker: "mqtt://" + addr, Run: "killed", QoS: 1, Topics: 20, Workers: 20}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- devices.Publish(publishing, -1) }()
	for range 6 {
		if err := svc.Start(); err != nil {
			t.Fatal(err)
		}
		if err := devices.AwaitAcked(ctx, devices.Acked()+500); err != nil {
			t.Fatal(err)
		}
		svc.Kill()
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := svc.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Drained(ctx, 1); err != nil {
		t.Fatal(err)
	}
	rows, err := ReadArchive(svc.Archive())
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, r := range rows {
		have[r.Payload] = true
	}
	for payload := range devices.Acknowledged() {
		if !have[payload] {
			lost++
		}
	}
	return lost, devices.Acked()
}
