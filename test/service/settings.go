package service

import (
	"fmt"
	"strings"
)

// Settings are what configurations of a Service differ in. All else is at its
// default.
type Settings struct {
	Name    string // of the source, which subscribes to NAME/#; "" for e2e
	Broker  string // URL
	QoS     int
	Version string // of MQTT; "" for auto
	Window  int    // receive maximum; 0 for the default

	KeepAlive string // of the session with the broker; "" for the default
	CA        string // file that the broker's certificate is checked against; "" for none
	Sources   string // further entries of sources, as text; "" for none

	MaxSize        string // of the log; "" for the default
	CommitInterval string // of the log; "" for the default

	NoArchive bool
	Readings  bool // of the archive

	NATS   string // URL; "" for none
	NATSCA string // file that the server's certificate is checked against; "" for none
	Stream string // "" for NAME in capitals
	Prefix string // of subjects; "" for mqtt

	Routes string // the sections routes and tests, as text; "" for none
}

// New is a service with its files in dir, at a port that is free, with these settings.
func New(bin, dir string, s Settings) (*Service, error) {
	svc, err := Bare(bin, dir)
	if err != nil {
		return nil, err
	}
	return svc, svc.Configure(s.text(svc))
}

// text is the configuration.
func (s Settings) text(svc *Service) string {
	or := func(value, without string) string {
		if value == "" {
			return without
		}
		return value
	}
	name := or(s.Name, "e2e")
	var b strings.Builder
	line := func(given bool, format string, args ...any) {
		if given {
			fmt.Fprintf(&b, format+"\n", args...)
		}
	}
	line(true, "sources:\n  - name: %s\n    url: %s\n    subscribe: [\"%[1]s/#\"]\n    qos: %[3]d", name, s.Broker, s.QoS)
	line(s.Version != "", "    version: %q", s.Version)
	line(s.Window != 0, "    receive_maximum: %d", s.Window)
	line(s.KeepAlive != "", "    keepalive: %s", s.KeepAlive)
	line(s.CA != "", "    tls: {ca: %s}", s.CA)
	line(true, "%slog:\n  dir: %s", s.Sources, svc.LogDir())
	line(s.CommitInterval != "", "  commit_interval: %s", s.CommitInterval)
	line(s.MaxSize != "", "  max_size: %s", s.MaxSize)
	line(!s.NoArchive, "archive:\n  path: %s\n  readings: %t", svc.Archive(), s.Readings)
	line(s.NATS != "", "nats:\n  url: %s\n  stream: %s\n  subject_prefix: %s", s.NATS, or(s.Stream, strings.ToUpper(name)), or(s.Prefix, "mqtt"))
	line(s.NATS != "" && s.NATSCA != "", "  tls: {ca: %s}", s.NATSCA)
	line(true, "http:\n  listen: %s\n%s", svc.HTTP, s.Routes)
	return b.String()
}
