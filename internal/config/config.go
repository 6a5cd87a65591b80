// Package config reads the configuration file of mqttetl. Its invariant: a
// Config that Parse or Load returns without an error is complete and possible:
// every default is filled in, and no value is left that a part of the program
// would have to refuse later for its form.
//
// The file is YAML, read strictly. All errors are reported at once, each as
// file:line:col: message. In values (never in keys or comments) ${VAR} is
// for an environment variable and ${VAR:-default} for the variable, or the
// default where it is unset or empty; an unset ${VAR} is an error. Expansion
// happens after the YAML has been parsed, so a variable's value is always one
// scalar, whatever characters it holds. $${ stands for a literal ${; any
// other $ stands for itself.
//
// Sizes are bytes with an optional unit (64MiB, 1GB, 4096), durations are
// written as in Go (500ms, 30s, 1m30s). Relative paths are relative to the
// working directory of the process.
package config

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// Config is the whole file. Archive, NATS and HTTP are nil where the section
// is absent: that part is off.
type Config struct {
	Sources []Source
	Listen  []Listener
	Log     Log
	Archive *Archive
	NATS    *NATS
	HTTP    *HTTP
	Routes  []transform.Route // as they are; transform.Compile takes them
	Tests   []Test
}

// Test is a message and what the routes are to make of it.
type Test struct {
	Line     int // in the file
	Topic    string
	Payload  []byte
	Received time.Time                   // zero: not said
	Expect   map[string][]map[string]any // by table: the rows, with some of their columns; nil, bool, int64, float64 or string
	Error    string                      // "": none; else part of the reason of a dead letter
}

// Source is one broker and what to subscribe to there.
type Source struct {
	Name           string        // recorded with every message
	URL            string        // scheme mqtt, mqtts, ws, wss, or an alias: tcp, ssl, tls
	Version        string        // "5", "3.1.1" or "auto"
	ClientID       string        // of the first connection; further ones append "-2", "-3", …
	Username       string        // "" for none
	Password       string        // "" for none; see ReadPassword
	PasswordFile   string        // "" for none; see ReadPassword
	TLS            dial.TLS      //
	Subscribe      []string      // topic filters, MQTT 5 §4.7
	QoS            int           // 0, 1 or 2
	Share          string        // group of a shared subscription, MQTT 5 §4.8.2; "" for none
	Connections    int           // 1 or more
	ReceiveMaximum int           // 1 to 65535, MQTT 5 §3.1.2.11.3
	MaxPacket      int64         // bytes of a PUBLISH, 32 KiB or more
	KeepAlive      time.Duration // whole seconds, 1 to 65535, MQTT 5 §3.1.2.10
	Retained       string        // "new", "always" or "never"
}

// Log is the append log.
type Log struct {
	Dir     string
	MaxSize int64 // bytes; at this size ingest pauses. 0: 16 GiB or a quarter of the file system, whichever is less
	// CommitInterval is the time in which at most one commit begins unless a sender
	// waits. 0: each begins when the one before has ended.
	CommitInterval time.Duration
}

// Archive is the SQLite archive.
type Archive struct {
	Path         string
	Batch        Batch
	Readings     bool // every number of every message is a row of readings
	ReadingsText bool // and every text that is one
	Latest       bool // the last message of each topic is a row of latest
}

// Batch says when rows are committed: whichever of the two comes first.
type Batch struct {
	Count  int
	Period time.Duration
}

// NATS is the JetStream forwarder.
type NATS struct {
	URL           string // comma separated
	Stream        string
	SubjectPrefix string
	CredsFile     string   // "" for none
	TLS           dial.TLS // ServerName and Insecure are not used
}

// HTTP is the listener of /healthz, /readyz, /metrics and /status.
type HTTP struct {
	Listen string // host:port
}

// Where the files are when no path is given.
const (
	DefaultPath        = "/etc/mqttetl/mqttetl.yaml"
	defaultLogDir      = "./data/log"
	defaultArchivePath = "./data/telemetry.db"
)

// The defaults of every value that has one. deploy/mqttetl.yaml shows them
// all, and a test holds the two together.
// DefaultCommitInterval is that of log.commit_interval.
const DefaultCommitInterval = 50 * time.Millisecond

func defaultSource() Source {
	return Source{
		Name:           "default",
		Version:        "auto",
		QoS:            1,
		Connections:    1,
		ReceiveMaximum: 900,
		MaxPacket:      64 << 20,
		KeepAlive:      30 * time.Second,
		Retained:       "new",
	}
}

func defaultLog() Log { return Log{Dir: defaultLogDir, CommitInterval: DefaultCommitInterval} }

func defaultArchive() Archive {
	return Archive{Path: defaultArchivePath, Batch: Batch{Count: 10000, Period: time.Second}, Latest: true}
}

func defaultNATS() NATS {
	return NATS{URL: "nats://127.0.0.1:4222", Stream: "TELEMETRY", SubjectPrefix: "mqtt"}
}

func defaultHTTP() HTTP { return HTTP{Listen: "127.0.0.1:9641"} }

// Load reads and parses the file at path with the process's environment. The
// error is Problems where the file could be read.
func Load(path string) (*Config, error) { return load(path, false) }

// LoadStores is Load for a program that connects to no broker. What a source
// authenticates itself with (username, password, password_file, tls) is left
// out where it needs a variable that is not set.
func LoadStores(path string) (*Config, error) { return load(path, true) }

func load(path string, stores bool) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return parseFor(path, src, os.LookupEnv, stores)
}

// HasPassword reports whether a password is configured at all.
func (s *Source) HasPassword() bool { return s.Password != "" || s.PasswordFile != "" }

// ReadPassword returns the password for the next connection attempt. A
// password file is read anew each time, so that a changed password takes
// effect with the next reconnect; one line end at its end is not part of it.
func (s *Source) ReadPassword() (string, error) {
	if s.PasswordFile == "" {
		return s.Password, nil
	}
	p, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("source %s: read password file: %w", s.Name, err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(p), "\n"), "\r"), nil
}

// ClientIDs are the client ids of all connections of the source.
func (s *Source) ClientIDs() []string {
	ids := []string{s.ClientID}
	for n := 2; n <= s.Connections; n++ {
		ids = append(ids, fmt.Sprintf("%s-%d", s.ClientID, n))
	}
	return ids
}
