package compare

import (
	"runtime/metrics"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// usage is what has been used up to a moment.
type usage struct {
	client  time.Duration
	servers map[string]time.Duration
	bytes   int64
	allocs  uint64
}

func (t *trial) readUsage() usage {
	u := usage{servers: map[string]time.Duration{}, bytes: t.wire.bytes.Load(), allocs: allocations()}
	for _, h := range t.hosts() {
		if d, err := instrument.ProcessTime(h.PID); h.PID != 0 && err == nil {
			u.servers[h.ID] = d
		}
	}
	u.client, _ = instrument.ProcessTime(0) // our own is always known
	return u
}

// since fills in what has been used since u, a message sent.
func (t *trial) since(u usage, r *Round) {
	n := float64(max(t.sent(), 1))
	v := t.readUsage()
	client := (v.client - u.client).Seconds() * 1e6 / n
	r.ClientCPU = &client
	r.ServerCPU = map[string]float64{}
	for id, d := range v.servers {
		if before, ok := u.servers[id]; ok {
			r.ServerCPU[id] = (d - before).Seconds() * 1e6 / n
		}
	}
	r.WireBytes = float64(v.bytes-u.bytes) / n
	r.Allocs = float64(v.allocs-u.allocs) / n
}

func allocations() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// sample looks at the rates, so often that a round has up to 50 samples, until
// the returned function is called.
func (t *trial) sample(begun int64) func() []Sample {
	samples := []Sample{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		again := time.NewTicker(max(t.c.Duration/50, 20*time.Millisecond))
		defer again.Stop()
		var sent, delivered uint64
		last := begun
		for {
			select {
			case <-again.C:
			case <-stop:
				return
			}
			at, s, d := now(), t.sent(), t.delivered()
			samples = append(samples, Sample{at - begun, instrument.PerSecond(s-sent, at-last), instrument.PerSecond(d-delivered, at-last)})
			last, sent, delivered = at, s, d
		}
	}()
	return func() []Sample {
		close(stop)
		<-done
		return samples
	}
}
