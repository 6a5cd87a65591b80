package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
)

var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// parseSize reads bytes with an optional unit: 64MiB, 1.5 GB, 4096.
func parseSize(s string) (int64, error) {
	number, unit := s, int64(1)
	for _, u := range units {
		if head, ok := strings.CutSuffix(s, u.suffix); ok {
			number, unit = strings.TrimSpace(head), u.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n > math.MaxInt64/unit || n < math.MinInt64/unit {
			return 0, fmt.Errorf("%s is more than can be counted", s)
		}
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) || strings.ContainsAny(number, "xXpPeEiI_") {
		return 0, fmt.Errorf("%q is not a size such as 64MiB, 1GB or 4096", s)
	}
	if f *= float64(unit); math.Abs(f) >= math.MaxInt64 {
		return 0, fmt.Errorf("%s is more than can be counted", s)
	}
	return int64(f), nil
}

func checkBrokerURL(s string) error {
	u, err := dial.URL(s)
	switch {
	case err != nil:
		return err
	case u.User != nil:
		return errors.New("user and password do not belong in the URL; use username and password_file")
	case u.Fragment != "" || !dial.WebSocket(u.Scheme) && (strings.Trim(u.Path, "/") != "" || u.RawQuery != ""):
		return fmt.Errorf("%q must end after the port; a topic belongs in subscribe", secret.URL(s))
	}
	return nil
}

// checkHost wants a host and, where there is a port, a possible one. The URL is
// quoted as it was written, but for a password.
func checkHost(u *url.URL, written string) error {
	if u.Hostname() == "" {
		return fmt.Errorf("%q names no host", secret.URL(written))
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("port %s is not from 1 to 65535", p)
		}
	}
	return nil
}

// broker is the address that tells one broker from another.
func broker(rawURL string) string {
	u, err := dial.URL(rawURL)
	if err != nil {
		return rawURL
	}
	return strings.ToLower(u.Host)
}

func checkNATSURL(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		u, err := secret.ParseURL(strings.TrimSpace(part))
		if err != nil {
			return fmt.Errorf("want a URL such as nats://127.0.0.1:4222: %w", err)
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return fmt.Errorf("%q must begin with nats://, tls://, ws:// or wss://", secret.URL(part))
		}
		if err := checkHost(u, part); err != nil {
			return err
		}
	}
	return nil
}

// checkUTF8 is what MQTT asks of every string (MQTT 5 §1.5.4).
func checkUTF8(s string) error {
	switch {
	case len(s) > math.MaxUint16:
		return fmt.Errorf("longer than the 65535 bytes that MQTT allows")
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return errors.New("must be UTF-8 without NUL")
	}
	return nil
}

// checkFilter holds a topic filter to MQTT 5 §4.7.1.
func checkFilter(s string) error {
	if strings.HasPrefix(s, "$share/") {
		return fmt.Errorf("%q: write the group as share: and the filter without $share", s)
	}
	_, err := mqttetl.ParseFilter(s)
	return err
}

// checkShare: an empty name is none.
func checkShare(s string) error {
	if s == "" {
		return nil
	}
	return mqttetl.CheckShare(s)
}

// checkName keeps a source's name fit for a metric label and a header line.
func checkName(s string) error {
	if s == "" || len(s) > 255 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("must be 1 to 255 bytes of UTF-8 without control characters")
	}
	return nil
}

func checkClientID(s string) error {
	if s == "" {
		return errors.New("must not be empty: the broker keeps our messages under this name")
	}
	return checkUTF8(s)
}

func checkPath(s string) error {
	if s == "" || strings.ContainsRune(s, 0) {
		return errors.New("must be a path")
	}
	return nil
}

// checkStream holds a stream name to what nats-server accepts.
func checkStream(s string) error {
	if s == "" || len(s) > 255 || strings.ContainsAny(s, ".*>/\\") || strings.ContainsFunc(s, notPrintable) {
		return fmt.Errorf("%q must be 1 to 255 characters without blanks, . * > / and \\", s)
	}
	return nil
}

// notPrintable is true for blanks, control characters and broken UTF-8.
func notPrintable(r rune) bool {
	return r == utf8.RuneError || unicode.IsSpace(r) || unicode.IsControl(r)
}

func checkListen(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q must be host:port such as 127.0.0.1:9641", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("port %q is not from 0 to 65535", port)
	}
	return nil
}

func checkKeepAlive(v time.Duration) error {
	if v < time.Second || v > math.MaxUint16*time.Second || v%time.Second != 0 {
		return errors.New("must be whole seconds from 1s to 65535s (without it a dead connection would not be noticed)")
	}
	return nil
}

// mostCommitInterval is far above what saves anything: a commit is some pages,
// whatever it holds.
const mostCommitInterval = 10 * time.Second

func checkCommitInterval(v time.Duration) error {
	if v < 0 || v > mostCommitInterval {
		return fmt.Errorf("must be between 0s and %v", mostCommitInterval)
	}
	return nil
}

func checkPeriod(v time.Duration) error {
	if v <= 0 {
		return errors.New("must be more than 0s")
	}
	return nil
}
