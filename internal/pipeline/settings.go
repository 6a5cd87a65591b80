package pipeline

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/ingest"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/disk"
	"golang.org/x/sys/unix"
)

// NATSConfig is what forward is told of the section nats.
func NATSConfig(n *config.NATS, logID string) forward.Config {
	return forward.Config{
		URL: n.URL, Stream: n.Stream, SubjectPrefix: n.SubjectPrefix, CredsFile: n.CredsFile,
		TLS: n.TLS, LogID: logID,
	}
}

func ingestConfig(s config.Source, logger *slog.Logger, metrics *ingest.Metrics) ingest.Config {
	c := ingest.Config{
		Name: s.Name, URL: s.URL, Version: s.Version, ClientID: s.ClientID, Username: s.Username,
		TLS:       s.TLS,
		Subscribe: s.Subscribe, QoS: byte(s.QoS), Share: s.Share, Connections: s.Connections,
		ReceiveMaximum: uint16(s.ReceiveMaximum), MaxPacket: int(min(s.MaxPacket, 1<<30)), KeepAlive: s.KeepAlive, Retained: retained[s.Retained],
		Logger: logger, Metrics: metrics,
	}
	if s.HasPassword() {
		c.Password = s.ReadPassword
	}
	return c
}

var retained = map[string]ingest.RetainHandling{
	"new": ingest.RetainNew, "always": ingest.RetainAlways, "never": ingest.RetainNever,
}

// ConnectSource logs in to the broker of a source, with its name and password,
// on a connection beside those that receive. u is the source's URL.
func ConnectSource(ctx context.Context, s *config.Source, u *url.URL, o client.Options) (_ *client.Client, err error) {
	c := ingestConfig(*s, slog.New(slog.DiscardHandler), nil)
	var password string
	if o.Username, password, err = c.Login(u); err != nil {
		return nil, err
	}
	if password != "" {
		o.Password = []byte(password)
	}
	d := c.Dialer()
	return client.ConnectAuto(ctx, func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, u) }, o)
}

// drainOf is the archive, if its file is on the log's file system.
func drainOf(cfg *config.Config) string {
	if cfg.Archive == nil {
		return ""
	}
	path := cfg.Archive.Path
	if itself, err := filepath.EvalSymlinks(path); err == nil {
		path = itself
	}
	log, err := disk.Existing(cfg.Log.Dir)
	if err != nil {
		return ""
	}
	archive, err := disk.Existing(filepath.Dir(path))
	if err != nil {
		return ""
	}
	var a, b unix.Statfs_t
	if unix.Statfs(log, &a) != nil || unix.Statfs(archive, &b) != nil {
		return ""
	}
	if a.Fsid != b.Fsid || a.Blocks != b.Blocks {
		return ""
	}
	return Archive
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
