package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What nats-server counts, by the page and name of its monitoring port.
const (
	natsIn     = "/varz in_msgs"
	natsOut    = "/varz out_msgs"
	natsSlow   = "/varz slow_consumers"
	natsStored = "/jsz messages"
)

// varz is what we read of /varz.
type varz struct {
	ServerID  string `json:"server_id"`
	Version   string `json:"version"`
	InMsgs    uint64 `json:"in_msgs"`
	OutMsgs   uint64 `json:"out_msgs"`
	Slow      uint64 `json:"slow_consumers"`
	JetStream struct {
		Config *struct {
			SyncInterval time.Duration `json:"sync_interval"`
			SyncAlways   bool          `json:"sync_always"`
		} `json:"config"`
	} `json:"jetstream"`
}

// monitor is the monitoring port of a nats-server.
type monitor string

func (m monitor) get(ctx context.Context, page string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(string(m), "/")+page, nil)
	if err != nil {
		return err
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("monitoring of NATS: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("monitoring of NATS: %s: %s", page, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("monitoring of NATS: %s: %w", page, err)
	}
	return nil
}

// read is what the server has counted.
func (m monitor) read(ctx context.Context) (map[string]uint64, error) {
	var v varz
	if err := m.get(ctx, "/varz", &v); err != nil {
		return nil, err
	}
	var j struct{ Messages uint64 }
	if v.JetStream.Config != nil {
		if err := m.get(ctx, "/jsz", &j); err != nil {
			return nil, err
		}
	}
	return map[string]uint64{natsIn: v.InMsgs, natsOut: v.OutMsgs, natsSlow: v.Slow, natsStored: j.Messages}, nil
}
