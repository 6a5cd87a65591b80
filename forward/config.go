package forward

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// Config says where and how to forward.
type Config struct {
	URL           string // comma list of nats, tls, ws or wss URLs; user and password may stand in them
	Stream        string // created if absent, never altered
	SubjectPrefix string // first tokens of every subject
	CredsFile     string // user JWT and seed, empty for none
	TLS           TLS
	LogID         string // of the log that is forwarded, the first half of every Nats-Msg-Id
	Key           []byte // natsmsg.KeySize bytes that nobody else knows, the same at every start; nil: the stream's end is not believed
	Fresh         bool   // the key is new: Stats.Claimed counts until something is forwarded, and no position in the stream does
	Logger        *slog.Logger
	Metrics       *Metrics
}

// TLS says how the server is verified and we are identified. The zero value: TLS
// only where URL or server ask for it, with the system's authorities.
type TLS = dial.TLS

// Check says what is wrong with the settings, before anything is connected. No
// stream is as good as any.
func (c Config) Check() error {
	if c.Stream == "" {
		c.Stream = "none"
	}
	return c.check()
}

func (c *Config) check() error {
	return errors.Join(c.checkURL(), checkStream(c.Stream), checkPrefix(c.SubjectPrefix), c.checkRest())
}

func (c *Config) checkURL() error {
	for s := range strings.SplitSeq(c.URL, ",") {
		u, err := secret.ParseURL(strings.TrimSpace(s))
		if err != nil {
			return fmt.Errorf("url: %w", err)
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return fmt.Errorf("url %q: the scheme must be nats, tls, ws or wss", secret.URL(s))
		}
		if u.Hostname() == "" {
			return fmt.Errorf("url %q: no host", secret.URL(s))
		}
	}
	return nil
}

func checkStream(name string) error {
	if name == "" || len(name) > 255 || strings.ContainsAny(name, " .*>/\\\t\r\n") {
		return fmt.Errorf("stream %q: must be 1 to 255 characters without space and . * > / \\", name)
	}
	return nil
}

func checkPrefix(prefix string) error {
	if err := natsmsg.CheckPrefix(prefix); err != nil {
		return fmt.Errorf("subject prefix %w", err)
	}
	return nil
}

func (c *Config) checkRest() error {
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		return errors.New("tls: cert and key belong together")
	}
	if c.LogID == "" || strings.ContainsFunc(c.LogID, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fmt.Errorf("log id %q: must be printable ASCII without spaces", c.LogID)
	}
	if len(c.Key) != 0 && len(c.Key) != natsmsg.KeySize {
		return fmt.Errorf("key of %d bytes: must have %d", len(c.Key), natsmsg.KeySize)
	}
	return nil
}

// unavailable marks err as something that may pass.
func unavailable(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, mqttetl.ErrUnavailable, brief{err})
}

// brief is an error whose text is not longer than a line may be: a server may put much into it.
type brief struct{ error }

func (b brief) Error() string { return cut(b.error.Error()) }
func (b brief) Unwrap() error { return b.error }

// mostWords is what is said of a text that a server has sent, in bytes.
const mostWords = 1000

func cut(text string) string {
	if len(text) <= mostWords {
		return text
	}
	return strings.ToValidUTF8(text[:mostWords], "") + "…"
}
