package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// warnOwn says so if the broker that is played to is one that the configuration
// records from. That may be intended, and topics may be rewritten: it is no error.
func (f *replayFlags) warnOwn(w io.Writer, cfg *config.Config) {
	to, err := dial.URL(f.to)
	if f.kind() != "mqtt" || err != nil {
		return
	}
	for _, s := range cfg.Sources {
		if from, err := dial.URL(s.URL); err == nil && brokerAddress(from) == brokerAddress(to) {
			fmt.Fprintf(w, "mqttetl: warning: source %s records from %s: what is replayed there is recorded again, "+
				"unless --topic-prefix or --topic-map takes it out of the subscriptions (%s)\n", s.Name, to.Host, strings.Join(s.Subscribe, ", "))
			return
		}
	}
}

// brokerAddress is host and port, with one name for this machine's loopback.
func brokerAddress(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		host = "localhost"
	}
	return net.JoinHostPort(host, u.Port())
}
