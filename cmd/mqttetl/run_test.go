package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/test/servers"
)

// world is a broker, a NATS server and a site that is configured for them.
type world struct {
	site
	mosquitto *servers.Mosquitto
	nats      *embedded.NATS
}

func newWorld(t *testing.T) world {
	t.Helper()
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Stop() })
	n, err := embedded.StartNATS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return world{newSite(t, m.URL, n.URL()), m, n}
}

// publish sends n messages of QoS 1 and waits for their PUBACKs.
func (w world) publish(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := net.Dial("tcp", w.mosquitto.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)})
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: "test", CleanStart: true, KeepAlive: 30}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := c.Publish(ctx, &paho.Publish{Topic: "a/" + strconv.Itoa(i%3), QoS: 1, Payload: []byte(strconv.Itoa(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
}

// get returns status code and body, 0 where nobody answers.
func (s site) get(path string) (int, string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	r, err := client.Get("http://" + s.listen + path)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(body)
}

func (s site) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, "/readyz says 200", func() bool { code, _ := s.get("/readyz"); return code == 200 })
}

// asked is the status by the command, as a document.
func (s site) asked(t *testing.T) pipeline.Status {
	t.Helper()
	r := call(t, "status", "-c", s.config, "-o", "json")
	var v pipeline.Status
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || r.code != 0 {
		t.Fatalf("status: exit %d, %v\n%s%s", r.code, err, r.out, r.err)
	}
	return v
}

// stopped is how long a stop may take on a machine that is busy with other
// tests; the product gives itself 800 ms.
const stopped = 5 * time.Second

// terminate sends a SIGTERM and returns the exit code and how long it took.
func (p *process) terminate(t *testing.T) (int, time.Duration) {
	t.Helper()
	began := time.Now()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		t.Fatal("SIGTERM does not end it")
	}
	return p.ProcessState.ExitCode(), time.Since(began)
}

// The metrics that the contract promises.
var promised = []string{
	"mqttetl_build_info{", `mqttetl_source_connected{source="plant"} 1`, `mqttetl_received_messages_total{qos="1",source="plant"} 20`,
	`mqttetl_received_bytes_total{source="plant"}`, `mqttetl_pubacks_total{source="plant"} 20`, `mqttetl_redelivered_messages_total{source="plant"} 0`,
	`mqttetl_session_lost_total{source="plant"} 0`, `mqttetl_broker_dropped_messages{source="plant"}`, "mqttetl_log_commit_seconds_bucket{",
	"mqttetl_log_commit_messages_bucket{", "mqttetl_log_bytes ", "mqttetl_log_paused 0",
	`mqttetl_lag_messages{consumer="archive"} 0`, `mqttetl_lag_messages{consumer="nats"} 0`,
	`mqttetl_lag_seconds{consumer="archive"} 0`, `mqttetl_lag_seconds{consumer="nats"} 0`,
	"mqttetl_archived_messages_total 20", "mqttetl_archive_wal_bytes ", "mqttetl_archive_wal_kept_total 0", "mqttetl_forwarded_messages_total 20", `mqttetl_dead_letters_total{stage="forward"} 0`,
	`mqttetl_consumer_errors_total{consumer="archive"} 0`, `mqttetl_consumer_errors_total{consumer="nats"} 0`,
	"mqttetl_uptime_seconds ", "go_goroutines ", "process_open_fds ",
}

func TestRunFromBrokerToStoresAndWhatItSaysOfItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := start(t, nil, "run", "-c", w.config)
	w.awaitReady(t)
	w.publish(t, 20)
	eventually(t, "both consumers have 20 records", func() bool {
		s := w.asked(t)
		return s.Archive.Cursor == 20 && s.NATS.Cursor == 20
	})
	up := w.asked(t)
	if up.Archive.WALBytes == 0 {
		t.Error("the write-ahead log has no size")
	}
	up.UptimeSeconds, up.Log.Bytes, up.Archive.WALBytes = 0, 0, 0
	wantUp := `{"ready":true,"version":"` + buildVersion().Version + `","uptime_seconds":0,` +
		`"sources":[{"name":"plant","connected":true,"received":20,"acknowledged":20,"redelivered":0,"reconnects":0}],` +
		`"log":{"first":1,"last":20,"bytes":0,"paused":false},"archive":{"cursor":20,"lag":0,"wal_bytes":0},"nats":{"cursor":20,"lag":0,"connected":true}}`
	if got, _ := json.Marshal(up); !sameStatus(string(got), wantUp) {
		t.Errorf("status\n%s\nwant\n%s", got, wantUp)
	}
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ok\n"} {
		if code, body := w.get(path); code != 200 || body != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	code, metrics := w.get("/metrics")
	for _, line := range promised {
		if code != 200 || !strings.Contains(metrics, "\n"+line) {
			t.Errorf("/metrics has no %s", line)
		}
	}
	if strings.Contains(metrics, "a/1") {
		t.Error("/metrics holds a topic")
	}
	if r := call(t, "verify", "-c", w.config); r.code != 0 || !strings.Contains(r.out, `"intact":true`) {
		t.Errorf("verify beside the service: %+v", r)
	}
	if code, took := p.terminate(t); code != 0 || took > stopped {
		t.Errorf("SIGTERM: exit %d after %v", code, took)
	}
	down := w.asked(t)
	if down.Ready || down.Sources[0].Connected || down.Log.Last != 20 || down.Archive.Cursor != 20 || down.NATS.Cursor != 20 || down.NATS.Connected {
		t.Errorf("status from the files: %+v", down)
	}
	if r := call(t, "verify", "-c", w.config); r.code != 0 || !strings.Contains(r.out, `"last":20,`) {
		t.Errorf("verify after the service: %+v", r)
	}
}

// sameStatus compares but for the log's first record, which trimming moves.
func sameStatus(got, want string) bool {
	var a, b pipeline.Status
	if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		return false
	}
	a.Log.First, b.Log.First, a.Log.FileBytes, b.Log.FileBytes = 0, 0, 0, 0
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

func TestRunWithoutServersSaysWhyAndStops(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	p := start(t, nil, "run", "-c", s.config)
	eventually(t, "/readyz names the broker and NATS only", func() bool {
		code, body := s.get("/readyz")
		return code == 503 && regexp.MustCompile("^source plant: not connected: .*connection refused\nnats: not connected: .*connection refused\n$").MatchString(body)
	})
	v := s.asked(t)
	if v.Ready || !strings.Contains(v.Sources[0].Error, "connection refused") || !strings.Contains(v.NATS.Error, "connection refused") || v.Archive.Error != "" {
		t.Errorf("status: %+v", v)
	}
	if r := call(t, "status", "-c", s.config, "-o", "table"); strings.Count(r.out, "connection refused") != 2 || r.err != "" {
		t.Errorf("status as a table: %+v", r)
	}
	if code, body := s.get("/healthz"); code != 200 {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if code, took := p.terminate(t); code != 0 || took > stopped {
		t.Errorf("SIGTERM: exit %d after %v", code, took)
	}
}

// A NATS server that answers is not enough: the stream must be there.
func TestNotReadyWhileTheStreamCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nc, err := nats.Connect(w.nats.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"mqtt.>"}}); err != nil {
		t.Fatal(err)
	}
	start(t, nil, "run", "-c", w.config)
	eventually(t, "/readyz names the reason", func() bool {
		code, body := w.get("/readyz")
		return code == 503 && strings.HasPrefix(body, "nats: not connected: ") && strings.Contains(body, "subjects overlap")
	})
	if s := w.asked(t); s.Ready || s.NATS.Connected || !strings.Contains(s.NATS.Error, "subjects overlap") {
		t.Errorf("status: %+v", s)
	}
	if err := js.DeleteStream(t.Context(), "OTHER"); err != nil {
		t.Fatal(err)
	}
	w.awaitReady(t)
}

// A status that is not the service's own says so.
func TestStatusFromTheFilesSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	fill(t, s, 3)
	r := call(t, "status", "-c", s.config, "-o", "table")
	if r.code != 0 || !strings.Contains(r.err, "connection refused: status read from the files") || strings.Count(r.out, "unknown") != 3 {
		t.Errorf("with http: %+v", r)
	}
	s.write(t, "sources: [{url: 'mqtt://127.0.0.1:1', password: '${MQTTETL_TEST_NONE}', subscribe: [a]}]\nlog: {dir: "+s.logDir()+"}\n")
	r = call(t, "status", "-c", s.config)
	if r.code != 0 || !strings.HasPrefix(r.err, "mqttetl: http is off in the configuration, the service may be running: ") || strings.Contains(r.out, "from") {
		t.Errorf("without http: %+v", r)
	}
	if r := call(t, "verify", "-c", s.config); r.code != 0 {
		t.Errorf("verify without the password: %+v", r)
	}
}

func TestFatalErrorsAreInTheFormatOfTheLog(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	if err := os.WriteFile(s.logDir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := call(t, "run", "-c", s.config, "--log-format", "journal")
	lines := strings.Split(strings.TrimSuffix(r.err, "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "<3>mqttetl: open log ") || !strings.HasPrefix(lines[1], "<3>hint: ") {
		t.Errorf("journal:\n%s", r.err)
	}
	r = call(t, "run", "-c", s.config, "--log-format", "json")
	var line struct{ Level, Msg, Hint string }
	if err := json.Unmarshal([]byte(r.err), &line); err != nil || line.Level != "ERROR" || !strings.HasPrefix(line.Msg, "open log ") || line.Hint == "" || r.code != exitIO {
		t.Errorf("json: %v\n%s", err, r.err)
	}
	s.write(t, "qos: 1\nx: 2\n")
	r = call(t, "run", "-c", s.config, "--log-format", "json")
	if err := json.Unmarshal([]byte(r.err), &line); err != nil || !strings.Contains(line.Msg, ":2:1: ") || r.code != exitConfig {
		t.Errorf("json: %v\n%s", err, r.err)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	t.Run("a port that is taken", func(t *testing.T) {
		s := newSite(t, "", "")
		l, err := net.Listen("tcp", s.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		refused(t, s, exitIO, "mqttetl: http.listen "+s.listen+": address already in use")
	})
	t.Run("an address of another machine", func(t *testing.T) {
		s := newSite(t, "", "")
		s.write(t, "sources: [{url: 'mqtt://127.0.0.1:1', subscribe: [a]}]\nhttp: {listen: '192.0.2.1:80'}\nlog: {dir: "+s.logDir()+"}\n")
		refused(t, s, exitIO, "mqttetl: http.listen 192.0.2.1:80: ")
	})
	t.Run("a host that is not known", func(t *testing.T) {
		s := newSite(t, "", "")
		s.write(t, "sources: [{url: 'mqtt://127.0.0.1:1', subscribe: [a]}]\nhttp: {listen: 'nowhere.invalid:9641'}\nlog: {dir: "+s.logDir()+"}\n")
		refused(t, s, exitIO, "mqttetl: http.listen nowhere.invalid:9641: no such host: nowhere.invalid")
	})
	t.Run("a directory where the archive should be", func(t *testing.T) {
		s := newSite(t, "", "")
		if err := os.Mkdir(s.archive(), 0o700); err != nil {
			t.Fatal(err)
		}
		refused(t, s, exitIO, "mqttetl: open archive "+s.archive()+": is a directory")
	})
	t.Run("a damaged log", func(t *testing.T) {
		s := newSite(t, "", "")
		fill(t, s, 1)
		if err := os.WriteFile(filepath.Join(s.logDir(), "data.mdb"), []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, s, exitDamaged, "mqttetl: open log "+s.logDir()+": ")
		if r := call(t, "run", "-c", s.config); !strings.Contains(r.err, "verify") || !strings.Contains(r.err, "both log.dir and archive.path") {
			t.Errorf("no hint what to do:\n%s", r.err)
		}
	})
	t.Run("a file where the log should be", func(t *testing.T) {
		s := newSite(t, "", "")
		if err := os.WriteFile(s.logDir(), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, s, exitIO, "mqttetl: open log "+s.logDir()+": mkdir "+s.logDir()+": not a directory")
	})
	t.Run("a log that another process has", func(t *testing.T) {
		s := newSite(t, "", "")
		start(t, nil, "run", "-c", s.config)
		eventually(t, "the first runs", func() bool { code, _ := s.get("/healthz"); return code == 200 })
		text, err := os.ReadFile(s.config)
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, strings.Replace(string(text), s.listen, freeAddress(t), 1))
		refused(t, s, exitIO, "mqttetl: open log "+s.logDir()+": in use by another process")
	})
	t.Run("a listener's port that another process has", func(t *testing.T) {
		s := newSite(t, "", "")
		l, err := net.Listen("tcp", freeAddress(t))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s.write(t, fmt.Sprintf("listen: [{url: \"mqtt://%s\", anonymous: true}]\nlog: {dir: %s}\n", l.Addr(), s.logDir()))
		refused(t, s, exitIO, fmt.Sprintf("mqttetl: listener door: listen tcp %s: bind: address already in use", l.Addr()))
	})
	t.Run("a password_file that is missing", func(t *testing.T) {
		s := newSite(t, "", "")
		users := filepath.Join(t.TempDir(), "users")
		s.write(t, fmt.Sprintf("listen: [{url: \"mqtt://%s\", password_file: %s}]\nlog: {dir: %s}\n", freeAddress(t), users, s.logDir()))
		refused(t, s, exitIO, "mqttetl: listener door: stat "+users+": no such file or directory")
	})
	t.Run("an archive of another log", func(t *testing.T) {
		s := newSite(t, "", "")
		a, err := archive.Open(s.archive(), "0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		refused(t, s, exitDamaged, "mqttetl: archive ")
		if r := call(t, "verify", "-c", s.config); r.code != exitDamaged || !strings.Contains(r.out, "filled from log 0123456789abcdef") {
			t.Errorf("verify: %+v", r)
		}
		if r := call(t, "status", "-c", s.config); r.code != exitDamaged || r.out != "" {
			t.Errorf("status: %+v", r)
		}
	})
}

// refused runs the site and wants it to end with one line, a hint, and code.
func refused(t *testing.T, s site, code int, line string) {
	t.Helper()
	r := call(t, "run", "-c", s.config, "--log-level", "ERROR")
	lines := strings.Split(strings.TrimSuffix(r.err, "\n"), "\n")
	if r.code != code || r.out != "" || len(lines) != 2 || !strings.HasPrefix(lines[0], line) || !strings.HasPrefix(lines[1], "hint: ") {
		t.Errorf("exit %d, want %d\n%swant\n%s…\nhint: …", r.code, code, r.err, line)
	}
}

func TestStatusWithoutAnything(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	r := call(t, "status", "-c", s.config)
	if r.code != exitUnreachable || r.out != "" || !strings.Contains(r.err, "connection refused") || !strings.Contains(r.err, s.logDir()) {
		t.Errorf("exit %d\n%s", r.code, r.err)
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 1 {
		t.Errorf("status has made files: %v, %v", entries, err)
	}
}

func TestStatusOfSomethingElseAtTheAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	l, err := net.Listen("tcp", s.listen)
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"hello":1}`) })}
	served := make(chan struct{})
	go func() { other.Serve(l); close(served) }()
	defer func() { other.Close(); <-served }()
	if r := call(t, "status", "-c", s.config); r.code != exitUnreachable || !strings.Contains(r.err, "the answer is not a status") {
		t.Errorf("exit %d\n%s", r.code, r.err)
	}
}

func TestServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	told, env := fakeServiceManager(t)
	p := start(t, env, "run", "-c", w.config, "--log-format", "journal")
	seen := map[string]int{}
	last := ""
	receive := func(what string, cond func() bool) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for !cond() {
			select {
			case last = <-told:
				seen[strings.SplitN(last, "=", 2)[0]]++
			case <-deadline:
				t.Fatalf("waited in vain for %s; seen %v", what, seen)
			}
		}
	}
	receive("READY=1", func() bool { return last == "READY=1" })
	if code, body := w.get("/readyz"); code != 200 && !strings.Contains(body, "nats") {
		t.Errorf("READY=1 while /readyz says %d %s", code, body)
	}
	receive("WATCHDOG=1 three times", func() bool { return seen["WATCHDOG"] >= 3 })
	w.publish(t, 5)
	receive("a STATUS with the rate", func() bool {
		return strings.HasPrefix(last, "STATUS=") && !strings.HasPrefix(last, "STATUS=0 msg/s") && strings.Contains(last, "nats")
	})
	if code, took := p.terminate(t); code != 0 || took > stopped {
		t.Errorf("SIGTERM: exit %d after %v", code, took)
	}
	receive("STOPPING=1", func() bool { return last == "STOPPING=1" })
	if seen["READY"] != 1 {
		t.Errorf("READY=1 came %d times", seen["READY"])
	}
	if log := p.err.String(); !strings.HasPrefix(log, "<6>msg=") {
		t.Errorf("log for the journal:\n%s", log)
	}
}

func TestServiceManagerWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	told, env := fakeServiceManager(t)
	start(t, env, "run", "-c", s.config)
	for n := 0; n < 5; { // the watchdog is served, READY=1 is not
		select {
		case v := <-told:
			if v == "READY=1" {
				t.Fatal("READY=1 without a broker")
			}
			if v == "WATCHDOG=1" {
				n++
			}
		case <-time.After(30 * time.Second):
			t.Fatal("no WATCHDOG=1")
		}
	}
}

// fakeServiceManager listens as systemd does, and returns what it is told and
// the environment for the service: a watchdog of 300 ms.
func fakeServiceManager(t *testing.T) (<-chan string, []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 4096); ; {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			told <- string(b[:n])
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return told, []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=300000"}
}
