package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/wal"
)

func newStatus(std streams) *cobra.Command {
	var path string
	var format outputFormat
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show sources, log and consumers, also while the service is down",
		Long: `Status asks the running service at http.listen. Where none answers, or http is
off, it reads the files of the log and of the archive, without changing them,
and says so on standard error. It then knows nothing of sources and NATS: ready and
connected are false, and the counts of sources are 0.

Exit codes: 0 there is a status, ready or not, 65 the files are damaged or do not
belong together, 69 neither the service nor the log can be read.`,
		Example: `  mqttetl status
  mqttetl status -c mqttetl.yaml -o json | jq .archive.lag`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadStores(path)
			if err != nil {
				return err
			}
			s, err := findStatus(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if s.fromFiles != "" {
				fmt.Fprintf(std.err, "mqttetl: %s: status read from the files, sources and NATS are not known\n", s.fromFiles)
			}
			return format.write(std.out, s.report())
		},
	}
	configFlag(cmd, &path)
	outputFlag(cmd, &format)
	return cmd
}

// findStatus asks the service and, where it does not answer, the files.
func findStatus(ctx context.Context, cfg *config.Config) (*shown, error) {
	asked := errors.New("http is off in the configuration, the service may be running")
	if cfg.HTTP != nil {
		s, err := askService(ctx, cfg.HTTP.Listen)
		if err == nil {
			return &shown{Status: *s}, nil
		}
		asked = err
	}
	s, err := readStatus(cfg)
	if err != nil {
		return nil, fmt.Errorf("no status: %w: the service: %w; the files: %w", mqttetl.ErrUnavailable, asked, err)
	}
	return &shown{*s, oneLine(asked)}, nil
}

// askService gets the document from the service that listens at address.
func askService(ctx context.Context, address string) (*pipeline.Status, error) {
	body, err := getService(ctx, address, "/status")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return decodeStatus(json.NewDecoder(body))
}

// getService gets a document of the service that listens at address.
func getService(ctx context.Context, address, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(address)+path, nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true} // and no proxy: it is this machine
	response, err := (&http.Client{Transport: transport, Timeout: 2 * time.Second}).Do(request)
	if err != nil {
		return nil, fmt.Errorf("no service answers: %w", errors.Unwrap(err)) // of *url.Error, which repeats the address
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s answers %s", address, response.Status)
	}
	return http.MaxBytesReader(nil, response.Body, 1<<20), nil
}

// decodeStatus reads a status document and holds it to be one: something else
// may listen at the address.
func decodeStatus(d *json.Decoder) (*pipeline.Status, error) {
	var s pipeline.Status
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("the answer is not a status: %w", err)
	}
	if s.Version == "" || s.Sources == nil {
		return nil, errors.New("the answer is not a status")
	}
	return &s, nil
}

// reachable turns an address to listen at, which may name no host or all of
// them, into one to connect to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// readStatus makes the document from the files, while the service is down.
func readStatus(cfg *config.Config) (*pipeline.Status, error) {
	info, err := wal.Inspect(cfg.Log.Dir)
	if err != nil {
		return nil, err
	}
	s := &pipeline.Status{Version: buildVersion().Version, Sources: []pipeline.SourceStatus{}}
	for _, source := range cfg.Sources {
		s.Sources = append(s.Sources, pipeline.SourceStatus{Name: source.Name})
	}
	if a := cfg.Archive; a != nil {
		if err := mayRead("archive", a.Path); err != nil {
			return nil, err
		}
		id, cursor, err := archive.ReadCursor(a.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil && id != "" && id != info.ID {
			return nil, fmt.Errorf("archive %s: %w", a.Path, mqttetl.ErrForeign)
		}
		s.Archive = &pipeline.ArchiveStatus{Cursor: cursor, WALBytes: archive.WALBytes(a.Path)}
	}
	if cfg.NATS != nil {
		s.NATS = &pipeline.NATSStatus{Cursor: info.Cursors[pipeline.NATS]}
	}
	if slices.Contains(pipeline.ConsumersOf(cfg), pipeline.Publish) {
		s.Publish = &pipeline.NATSStatus{Cursor: info.Cursors[pipeline.Publish]}
	}
	s.SetLog(wal.Stats{First: info.First, Last: info.Last, Bytes: info.Bytes, File: info.File, HeldBy: info.HeldBy})
	return s, nil
}

// mayRead tells why this user cannot read an archive or a log that is there.
func mayRead(what, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return mqttetl.WithHint(fmt.Errorf("%s: %w", what, err), "read it as root, or as the user that the service runs as")
	}
	return f.Close()
}
