package config

import (
	"bytes"
	"math"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// minLogSize is the smallest max_size that leaves room for the largest batch
// that is committed at once and for LMDB's own pages.
const minLogSize = 1 << 20

// Parse reads a configuration. name is in the messages, env looks up
// environment variables. The error, if any, is Problems.
func Parse(name string, src []byte, env func(string) (string, bool)) (*Config, error) {
	return parseFor(name, src, env, false)
}

// parseFor is Parse, with stores as LoadStores reads.
func parseFor(name string, src []byte, env func(string) (string, bool), stores bool) (*Config, error) {
	d := &decoder{file: name, env: env, stores: stores, anchors: map[string]ast.Node{}, lines: strings.Split(string(src), "\n")}
	src = bytes.TrimPrefix(src, []byte("\ufeff")) // some editors write it; it says nothing
	c := &Config{Log: defaultLog()}
	if root := d.parse(src); root != nil {
		d.root(root, c)
	}
	if len(d.problems) > 0 {
		d.problems.sort()
		return nil, d.problems
	}
	return c, nil
}

func (d *decoder) root(n ast.Node, c *Config) {
	var sources, listeners []ast.Node
	var archive ast.Node
	var routes []routeNode
	seen := d.mapping(n, "the configuration", []field{
		{"sources", func(n ast.Node) {
			d.list(n, "sources", func(n ast.Node) {
				c.Sources = append(c.Sources, d.source(n))
				sources = append(sources, n)
			})
		}},
		{"listen", func(n ast.Node) {
			d.list(n, "listen", func(n ast.Node) {
				c.Listen = append(c.Listen, d.listener(n))
				listeners = append(listeners, n)
			})
		}},
		{"log", func(n ast.Node) { d.log(n, &c.Log) }},
		{"archive", func(n ast.Node) { c.Archive, archive = d.archive(n), n }},
		{"nats", func(n ast.Node) { c.NATS = d.nats(n) }},
		{"http", func(n ast.Node) { c.HTTP = d.http(n) }},
		{"routes", func(n ast.Node) { routes = d.routes(n) }},
		{"tests", func(n ast.Node) { c.Tests = d.tests(n) }},
	})
	if seen["listen"] == nil {
		d.require(n, seen, "the configuration", "sources")
	}
	d.unique(c.Sources, sources)
	d.uniqueListeners(c, listeners)
	d.routesAsWhole(routes, c)
	if c.Archive != nil && filepath.Clean(c.Archive.Path) == filepath.Clean(c.Log.Dir) {
		d.report(archive, "archive.path and log.dir are both %s: the archive is a file, the log a directory", c.Archive.Path)
	}
}

// require reports the keys that a mapping cannot do without.
func (d *decoder) require(n ast.Node, seen map[string]ast.Node, what string, keys ...string) {
	if !isMapping(d.resolve(n)) {
		return // already reported
	}
	for _, key := range keys {
		if seen[key] == nil {
			d.report(n, "%s is missing in %s", key, what)
		}
	}
}

func isMapping(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

func (d *decoder) source(n ast.Node) Source {
	s := defaultSource()
	seen := d.mapping(n, "the source", []field{
		{"name", d.text(&s.Name, "name", checkName)},
		{"url", d.text(&s.URL, "url", checkBrokerURL)},
		{"version", d.choice(&s.Version, "version", "5", "3.1.1", "auto")},
		{"client_id", d.text(&s.ClientID, "client_id", checkClientID)},
		{"username", d.secret(d.text(&s.Username, "username", checkUTF8))},
		{"password", d.secret(d.text(&s.Password, "password", nil))},
		{"password_file", d.secret(d.text(&s.PasswordFile, "password_file", checkPath))},
		{"tls", d.secret(d.tls(&s.TLS, true))},
		{"subscribe", func(n ast.Node) { d.subscribe(n, &s.Subscribe) }},
		{"qos", d.integer(&s.QoS, "qos", 0, 2)},
		{"share", d.text(&s.Share, "share", checkShare)},
		{"connections", d.integer(&s.Connections, "connections", 1, 1024)},
		{"receive_maximum", d.integer(&s.ReceiveMaximum, "receive_maximum", 1, math.MaxUint16)},
		{"max_packet", d.size(&s.MaxPacket, "max_packet", 32<<10)},
		{"keepalive", d.duration(&s.KeepAlive, "keepalive", checkKeepAlive)},
		{"retained", d.choice(&s.Retained, "retained", "new", "always", "never")},
	})
	d.require(n, seen, "the source", "url", "subscribe")
	d.sourceAsWhole(&s, seen)
	if seen["client_id"] == nil {
		s.ClientID = "mqttetl-" + s.Name
	}
	return s
}

// sourceAsWhole reports values that are possible alone but not together.
func (d *decoder) sourceAsWhole(s *Source, seen map[string]ast.Node) {
	if s.Connections > 1 && s.Share == "" {
		d.report(seen["connections"], "connections: %d needs share, or every message would come %d times", s.Connections, s.Connections)
	}
	if s.Password != "" && s.PasswordFile != "" {
		d.report(seen["password_file"], "password and password_file exclude each other")
	}
	if s.HasPassword() && s.Username == "" && s.Version == "3.1.1" {
		d.report(seen["version"], "MQTT 3.1.1 has no password without a username (§3.1.2.9)")
	}
	if u, err := url.Parse(s.URL); err == nil && s.URL != "" && seen["tls"] != nil && !dial.Secure(u.Scheme) {
		d.report(seen["tls"], "tls has no meaning for %s://; use mqtts:// or wss://", u.Scheme)
	}
}

func (d *decoder) subscribe(n ast.Node, dst *[]string) {
	have := map[string]bool{}
	d.list(n, "subscribe", func(n ast.Node) {
		var filter string
		d.text(&filter, "subscribe", checkFilter)(n)
		if have[filter] && filter != "" {
			d.report(n, "subscribe: %q is there twice", filter)
		}
		have[filter] = true
		*dst = append(*dst, filter)
	})
}

// tls sets *dst; the keys server_name and insecure only where full.
func (d *decoder) tls(dst *dial.TLS, full bool) func(ast.Node) {
	fields := []field{
		{"ca", d.text(&dst.CA, "ca", checkPath)},
		{"cert", d.text(&dst.Cert, "cert", checkPath)},
		{"key", d.text(&dst.Key, "key", checkPath)},
	}
	if full {
		fields = append(fields,
			field{"server_name", d.text(&dst.ServerName, "server_name", checkName)},
			field{"insecure", d.boolean(&dst.Insecure, "insecure")})
	}
	return func(n ast.Node) {
		seen := d.mapping(n, "tls", fields)
		if seen["cert"] != nil && seen["key"] == nil {
			d.report(seen["cert"], "cert needs key, the private key of the certificate")
		}
		if seen["key"] != nil && seen["cert"] == nil {
			d.report(seen["key"], "key needs cert, the certificate of the private key")
		}
	}
}

func (d *decoder) log(n ast.Node, l *Log) {
	d.mapping(n, "log", []field{
		{"dir", d.text(&l.Dir, "dir", checkPath)},
		{"max_size", d.size(&l.MaxSize, "max_size", minLogSize)},
		{"commit_interval", d.duration(&l.CommitInterval, "commit_interval", checkCommitInterval)},
	})
}

func (d *decoder) archive(n ast.Node) *Archive {
	a := defaultArchive()
	d.mapping(n, "archive", []field{
		{"path", d.text(&a.Path, "path", checkPath)},
		{"batch", func(n ast.Node) {
			d.mapping(n, "batch", []field{
				{"count", d.integer(&a.Batch.Count, "count", 1, math.MaxInt32)},
				{"period", d.duration(&a.Batch.Period, "period", checkPeriod)},
			})
		}},
		{"readings", d.boolean(&a.Readings, "readings")},
		{"readings_text", d.boolean(&a.ReadingsText, "readings_text")},
		{"latest", d.boolean(&a.Latest, "latest")},
	})
	return &a
}

func (d *decoder) nats(n ast.Node) *NATS {
	s := defaultNATS()
	d.mapping(n, "nats", []field{
		{"url", d.text(&s.URL, "url", checkNATSURL)},
		{"stream", d.text(&s.Stream, "stream", checkStream)},
		{"subject_prefix", d.text(&s.SubjectPrefix, "subject_prefix", natsmsg.CheckPrefix)},
		{"creds_file", d.text(&s.CredsFile, "creds_file", checkPath)},
		{"tls", d.tls(&s.TLS, false)},
	})
	return &s
}

func (d *decoder) http(n ast.Node) *HTTP {
	h := defaultHTTP()
	listen := func(n ast.Node) {
		if v, ok := d.resolve(n).(*ast.IntegerNode); ok {
			d.report(v, "listen: %v", checkListen(v.GetToken().Value))
			return
		}
		d.text(&h.Listen, "listen", checkListen)(n)
	}
	d.mapping(n, "http", []field{{"listen", listen}})
	return &h
}

// unique reports sources that would be taken for one another: by us, for the
// name, or by the broker, which throws out the older of two clients of one id.
func (d *decoder) unique(sources []Source, nodes []ast.Node) {
	names := map[string]bool{}
	clients := map[string]string{}
	for i, s := range sources {
		if names[s.Name] {
			d.report(nodes[i], "a second source named %q; name tells sources apart", s.Name)
			continue
		}
		names[s.Name] = true
		if s.URL == "" {
			continue
		}
		for _, id := range s.ClientIDs() {
			key := broker(s.URL) + "\x00" + id
			if other, ok := clients[key]; ok {
				d.report(nodes[i], "client id %q is used by source %q on the same broker: each would throw the other out", id, other)
				break
			}
			clients[key] = s.Name
		}
	}
}
