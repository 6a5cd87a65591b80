package reporters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/mqttetl/mqttetl/internal/pipeline"
)

// Ask gets the status from the service that listens at address.
func Ask(ctx context.Context, address string) (*pipeline.Status, error) {
	body, err := Get(ctx, address, "/status")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return DecodeStatus(json.NewDecoder(body))
}

// Get gets a document of the service that listens at address.
func Get(ctx context.Context, address, path string) (io.ReadCloser, error) {
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

// DecodeStatus reads a status document and holds it to be one: something else
// may listen at the address.
func DecodeStatus(d *json.Decoder) (*pipeline.Status, error) {
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
