package ingest

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// Log is what an ingest needs of the log.
type Log interface {
	session.Log
	// Note returns the value of a note that a batch on disk has left, nil if
	// there is none.
	Note(name string) ([]byte, error)
}

// RetainHandling says what a subscription does with retained messages (MQTT 5
// §3.8.3.1). MQTT 3.1.1 has no such option: a broker then sends them at every
// subscribe, which is why a session that is still there is not subscribed again.
type RetainHandling uint8

// The values of the setting retained.
const (
	RetainNew    RetainHandling = iota // retained messages for a new subscription only
	RetainAlways                       // at every connect
	RetainNever
)

// option is the value on the wire.
func (r RetainHandling) option() byte { return [...]byte{1, 0, 2}[r] }

// Versions of MQTT for Config.Version.
const (
	Version5    = "5"
	Version311  = "3.1.1"
	VersionAuto = "auto" // 5, and 3.1.1 where the broker refuses it
)

// TLS says how mqtts and wss verify the broker and identify the client.
type TLS = dial.TLS

// Config describes one source.
type Config struct {
	Name     string // recorded with every message; default "default"
	URL      string // mqtt, mqtts, ws, wss; tcp, ssl and tls are accepted aliases
	Version  string // Version5, Version311 or VersionAuto, the default
	ClientID string // must be stable and unique; further connections get "-2", "-3", …
	Username string
	Password func() (string, error) // nil: none; called for every connect
	TLS      TLS

	Subscribe      []string // topic filters
	QoS            byte     // 0, 1 or 2
	Share          string   // group of a shared subscription, or empty
	Connections    int      // more than 1 needs Share; default 1
	ReceiveMaximum uint16   // default 900
	MaxPacket      int      // bytes of a PUBLISH; a record without payload takes the place of a larger one (session/large.go); default 64 MiB
	KeepAlive      time.Duration
	Retained       RetainHandling

	Logger  *slog.Logger // nil: discard
	Metrics *Metrics     // nil: unregistered
}

// Defaults of Config.
const (
	defaultReceiveMaximum = 900
	defaultMaxPacket      = 64 << 20
	minPacket             = session.MinPacket
	defaultKeepAlive      = 30 * time.Second
	maxKeepAlive          = 65535 * time.Second
)

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	setDefault(&c.Name, "default")
	setDefault(&c.Version, VersionAuto)
	setDefault(&c.Connections, 1)
	setDefault(&c.ReceiveMaximum, defaultReceiveMaximum)
	setDefault(&c.MaxPacket, defaultMaxPacket)
	setDefault(&c.KeepAlive, defaultKeepAlive)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// check returns everything that is impossible about c.
func (c *Config) check() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Version == Version5 || c.Version == Version311 || c.Version == VersionAuto,
		"version %q is none of 5, 3.1.1 and auto", c.Version)
	bad(c.ClientID != "", "client id is empty: a session cannot be found again without one")
	bad(c.QoS <= 2, "QoS %d is none of 0, 1 and 2", c.QoS)
	bad(c.Retained <= RetainNever, "retain handling %d is unknown", c.Retained)
	bad(len(c.Subscribe) > 0, "nothing to subscribe to")
	for _, f := range c.Subscribe {
		if _, err := mqttetl.ParseFilter(f); err != nil {
			errs = append(errs, err)
		}
	}
	bad(c.Connections >= 1, "%d connections", c.Connections)
	bad(c.Connections <= 1 || c.Share != "", "%d connections without a share would receive every message %d times", c.Connections, c.Connections)
	bad(c.MaxPacket >= minPacket, "max_packet %d is below %d", c.MaxPacket, minPacket)
	bad(c.KeepAlive >= time.Second && c.KeepAlive <= maxKeepAlive, "keepalive %s is not within 1 s and %s", c.KeepAlive, maxKeepAlive)
	bad((c.TLS.Cert == "") == (c.TLS.Key == ""), "a client certificate needs both cert and key")
	if c.Share != "" {
		errs = append(errs, mqttetl.CheckShare(c.Share))
	}
	_, err := dial.URL(c.URL)
	return errors.Join(append(errs, err)...)
}

// Dialer is how the source reaches its broker.
func (c *Config) Dialer() *dial.Dialer {
	return &dial.Dialer{TLS: c.TLS}
}
