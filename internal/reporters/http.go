package reporters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/pipeline"
)

// Listen binds the address of /metrics and the others. An error says what to do.
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	hint := "http.listen must be an address of this machine"
	var unknown *net.DNSError
	var errno syscall.Errno
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another process has this port, perhaps a second mqttetl; stop it or change http.listen"
	case errors.Is(err, syscall.EACCES):
		hint = "ports below 1024 need root; the default of http.listen is 127.0.0.1:9641"
	case errors.As(err, &unknown):
		hint = "the name of this host in http.listen is not known; an address such as 127.0.0.1:9641 is"
		err = errors.New("no such host: " + unknown.Name)
	}
	if errors.As(err, &errno) {
		err = errno // what is around it repeats the address
	}
	return nil, mqttetl.WithHint(fmt.Errorf("http.listen %s: %w", address, err), hint)
}

// httpConnections is how many connections are served at a time; others wait.
const httpConnections = 256

// Serve answers on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, handler http.Handler, logger *slog.Logger) error {
	logger.Info("listening", "address", l.Addr().String())
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(netutil.LimitListener(l, httpConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http %s: %w", l.Addr(), err)
	}
	return nil
}

// Endpoints is the whole of what is served.
func Endpoints(p *pipeline.Pipeline, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !p.Alive() {
			http.Error(w, "the log has not committed for "+pipeline.StuckAfter.String(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reasons := p.NotReady(); len(reasons) > 0 {
			http.Error(w, strings.Join(reasons, "\n"), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(p.Status()) // an error is the client's, which has gone
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	return mux
}
