package compare

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/processes"
	"github.com/mqttetl/mqttetl/test/servers"
)

// Kinds of servers.
const (
	kindMosquitto = "mosquitto"
	kindMochi     = "mochi"
	kindNATS      = "nats-server"
	kindPipeline  = "mqttetl"
	kindNull      = "null server"
	kindBroker    = "MQTT broker"
)

// Server.ID.
const (
	hostMQTT     = "mqtt"
	hostNATS     = "nats"
	hostAlways   = "nats-always"
	hostPipeline = "pipeline"
	hostNullMQTT = "null-mqtt"
	hostNullNATS = "null-nats"
)

// host is a server that takes part.
type host struct {
	Server
	protocol Protocol // MQTT or NATSCore; "" for one that is not counted
	url      string   // with password
	broker   brokerAt // of an MQTT broker
	nats     natsAt   // of a NATS server
	child    *instrument.Child
	stop     func() error // nil: not ours

	monitor monitor
	sys     *sysWatch
	counted map[string]uint64 // by $SYS, as of the last time it was read
	pending *pending
	file    Durability // of JetStream's file storage
}

// stale marks the counters that were read by $SYS as out of date.
func (h *host) stale(since time.Time) {
	if h.sys != nil && h.pending == nil {
		h.pending = &pending{since: since}
	}
}

// end ends what belongs to us.
func (h *host) end() error {
	if h.sys != nil {
		h.sys.c.Close()
	}
	if h.stop == nil {
		return nil
	}
	return h.stop()
}

// startHost starts a server or looks at a given one.
func (w *world) startHost(ctx context.Context, id string) (*host, error) {
	h := &host{Server: Server{ID: id}}
	dir := filepath.Join(w.dir, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	switch id {
	case hostMQTT:
		err = w.startMQTT(ctx, h, dir)
	case hostNATS:
		err = w.startNATS(ctx, h, dir)
	case hostAlways:
		err = w.startAlways(ctx, h, dir)
	case hostNullMQTT:
		err = errors.Join(w.startRole(h, roleNullMQTT, kindNull, dir), h.setBroker())
	case hostNullNATS:
		err = w.startRole(h, roleNullNATS, kindNull, dir)
		h.nats.url = h.url
	case hostPipeline:
		h.Kind, h.Version, h.How = kindPipeline, w.cfg.Version, "started, this program, anew for every round"
	}
	if err != nil && h.stop != nil {
		err = errors.Join(err, h.stop())
	}
	if h.URL == "" {
		h.URL = redacted(h.url)
	}
	return h, err
}

// given takes a server that runs; of one on this machine the CPU is measured.
func (h *host) given(url string) {
	h.How, h.url, h.PID = "given", url, processes.Listening(url)
	if h.PID != 0 {
		h.How += ", on its port listens " + processes.Program(h.PID)
	}
}

func (h *host) setBroker() (err error) {
	if h.url != "" {
		h.broker.URL, err = dial.URL(h.url)
	}
	return err
}

// mosquittoSettings let it neither drop a message of a slow subscriber nor keep
// the instrument's window small, and tell its counters often.
const mosquittoSettings = `sys_interval 1
max_inflight_messages %d
max_queued_messages 0
persistence true
`

// startMQTT starts Mosquitto if it is installed, else the broker that is built
// in, or takes the one that is given.
func (w *world) startMQTT(ctx context.Context, h *host, dir string) error {
	h.protocol = MQTT
	if w.cfg.MQTT != "" {
		h.Kind = kindBroker
		h.given(w.cfg.MQTT)
		h.broker.tls = w.cfg.MQTTTLS
		return w.lookAtBroker(ctx, h)
	}
	m, err := w.startMosquitto(dir)
	if errors.Is(err, servers.ErrNoMosquitto) {
		w.note("mosquitto is not installed: the broker is mochi, built in (apt-get install mosquitto)")
		return errors.Join(w.startRole(h, roleMochi, kindMochi, dir), h.setBroker())
	}
	if err != nil {
		return err
	}
	h.Kind, h.url, h.PID, h.stop = kindMosquitto, m.URL, m.Pid(), m.Kill
	conf, err := os.ReadFile(filepath.Join(dir, "mosquitto.conf"))
	if err != nil {
		return err
	}
	h.Config = string(conf)
	path := processes.Program(h.PID)
	h.How = "started, found as " + path
	if out, _ := exec.CommandContext(ctx, path, "-h").CombinedOutput(); len(out) > 0 { // which exits 3
		line, _, _ := strings.Cut(string(out), "\n")
		h.Version = strings.TrimPrefix(strings.TrimSpace(line), "mosquitto version ")
	}
	return w.lookAtBroker(ctx, h)
}

func (w *world) startMosquitto(dir string) (*servers.Mosquitto, error) {
	if w.cfg.builtIn {
		return nil, servers.ErrNoMosquitto
	}
	return servers.StartMosquitto(dir, w.mosquittoSettings())
}

func (w *world) mosquittoSettings() string {
	if w.cfg.mosquitto != "" {
		return w.cfg.mosquitto
	}
	window := 1000
	for _, n := range w.cfg.Inflight {
		window = min(max(window, n), 65535)
	}
	return fmt.Sprintf(mosquittoSettings, window)
}

// lookAtBroker begins to watch $SYS.
func (w *world) lookAtBroker(ctx context.Context, h *host) error {
	if err := h.setBroker(); err != nil {
		return err
	}
	s, err := login(ctx, h.broker, "mqttetl-bench-"+w.run+"-look", new(meter))
	if err != nil {
		return err // such as a refusal, which the cases would meet too
	}
	s.bye()
	sys, err := watchSys(ctx, h.broker, "mqttetl-bench-"+w.run+"-sys")
	if err != nil {
		w.note("the broker does not let us read $SYS, its counters are not compared: %v", err)
		return nil
	}
	if h.stop == nil && sys.interval(ctx) == 0 {
		sys.c.Disconnect(0)
		w.note("the broker updates $SYS less than every %v, its counters are not compared (mosquitto: sys_interval 1)", sysMost)
		return nil
	}
	if h.Version == "" {
		h.Version = sys.broker()
	}
	h.sys = sys
	h.stale(time.Now())
	return nil
}

// startNATS starts nats-server if it is installed, else the one that is built
// in, or takes the one that is given.
func (w *world) startNATS(ctx context.Context, h *host, dir string) error {
	h.protocol = NATSCore
	if w.cfg.NATS != "" {
		h.Kind = kindNATS
		h.given(w.cfg.NATS)
		h.nats.tls, h.nats.creds = w.cfg.NATSTLS, w.cfg.Creds
		return w.lookAtNATS(ctx, h)
	}
	err := w.startNATSProcess(h, dir, false)
	if errors.Is(err, servers.ErrNoNATS) {
		w.note("nats-server is not installed: it is the one that is built in (apt-get install nats-server)")
		err = w.startRole(h, roleNATS, kindNATS, dir)
	}
	if err != nil {
		return err
	}
	return w.lookAtNATS(ctx, h)
}

// startAlways starts a second nats-server that syncs before it acknowledges:
// the installed one if it knows the setting, which 2.10 has brought.
func (w *world) startAlways(ctx context.Context, h *host, dir string) error {
	h.protocol = NATSCore
	err := w.startNATSProcess(h, dir, true)
	if err != nil {
		if !errors.Is(err, servers.ErrNoNATS) {
			w.note("the installed nats-server does not know sync_interval: always (2.10 does): the built-in one is used for these cases")
		}
		h.Config, h.How = "", ""
		if err := w.startRole(h, roleAlways, kindNATS, dir); err != nil {
			return err
		}
	}
	return w.lookAtNATS(ctx, h)
}

func (w *world) startNATSProcess(h *host, dir string, always bool) error {
	if w.cfg.builtIn {
		return servers.ErrNoNATS
	}
	at, err := servers.FreeAddr()
	if err != nil {
		return err
	}
	extra := fmt.Sprintf("http: %q", at)
	if always {
		extra += fmt.Sprintf("\njetstream { store_dir: %q%s }", filepath.Join(dir, "store"), alwaysText(true))
	}
	n, err := servers.StartNATSProcess(dir, extra)
	if err != nil {
		return err
	}
	h.Kind, h.url, h.PID, h.stop = kindNATS, n.URL(), n.Pid(), n.Kill
	h.monitor = monitor("http://" + at)
	h.How = "started, found as " + processes.Program(h.PID)
	conf, err := os.ReadFile(filepath.Join(dir, "nats.conf"))
	h.Config = string(conf)
	return err
}

// startRole starts a server that is built in.
func (w *world) startRole(h *host, role, kind, dir string) error {
	c, err := instrument.StartChild(context.Background(), role, childTime, append([]string{w.cfg.Self}, ServeArgs(role, dir)...)...)
	if err != nil {
		return err
	}
	var said ready
	if err := c.Hear(&said); err != nil {
		return err
	}
	h.Kind, h.How, h.child, h.stop, h.PID = kind, "started, built in, a process of its own", c, c.Stop, c.PID()
	h.url, h.monitor, h.Version, h.Config = said.URL, monitor(said.Monitor), said.Version, said.Config
	return nil
}

// ServeArgs are the arguments with which Config.Self serves in a role: what
// the command has to hand to Serve.
func ServeArgs(role, dir string) []string { return []string{"bench", "serve", role, dir} }

// lookAtNATS finds out what the server is, and what its file storage is worth.
func (w *world) lookAtNATS(ctx context.Context, h *host) error {
	h.nats.url = h.url
	nc, err := connectNATS(&natsDialer{at: h.nats, m: new(meter)}, func(error) {}) // the next request will tell
	if err != nil {
		return err
	}
	defer nc.Close()
	h.Version = nc.ConnectedServerVersion()
	if h.monitor == "" {
		h.monitor = w.findMonitor(ctx, h, nc.ConnectedServerId())
	}
	h.file = Durability{Unknown, "unknown whether synced", "the server's monitoring port is not known"}
	if h.monitor != "" {
		var v varz
		if err := h.monitor.get(ctx, "/varz", &v); err != nil {
			return err
		}
		h.file = fileDurability(&v)
	}
	return w.removeStreams(h.nats)
}

// findMonitor is the monitoring port of a given server, "" if there is none of
// that server.
func (w *world) findMonitor(ctx context.Context, h *host, id string) monitor {
	m := monitor(w.cfg.Monitor)
	if u, err := url.Parse(h.url); m == "" && err == nil {
		m = monitor("http://" + u.Hostname() + ":8222")
	}
	var v varz
	if err := m.get(ctx, "/varz", &v); err != nil || v.ServerID != id {
		w.note("no monitoring port of NATS at %s: its counters are not compared, and what it syncs is not known (--nats-monitor)", m)
		return ""
	}
	return m
}
