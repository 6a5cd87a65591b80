package ingest

import (
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl/internal/news"
)

// droppedTopic is where Mosquitto says how many messages it has dropped since
// it started, because a subscriber's queue was full.
const droppedTopic = "$SYS/broker/publish/messages/dropped"

func isDroppedTopic(topic []byte) bool { return string(topic) == droppedTopic }

// dropped watches what a broker says it has dropped.
type dropped struct {
	wanted bool // a configured filter matches the topic, so its messages are stored too
	gauge  prometheus.Gauge
	logger *slog.Logger

	mu     sync.Mutex
	seen   bool   // last is a count of the broker
	last   uint64 // the count as last seen
	told   uint64 // the count when last logged
	toldAt time.Time
	later  *time.Timer // tells what was not told at once
}

// recall takes the count that an earlier process saw last.
func (d *dropped) recall(n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.seen {
		d.seen, d.last, d.told = true, n, n
	}
}

// observe takes a payload of droppedTopic and says whether the count is news.
// The first count of a broker that was never seen before is history.
func (d *dropped) observe(payload []byte) (fresh bool) {
	n, err := strconv.ParseUint(string(payload), 10, 64)
	if err != nil {
		return false // another broker's idea of the topic
	}
	d.gauge.Set(float64(n))
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh = !d.seen || n != d.last
	if !d.seen {
		d.told = n
	} else if n < d.last {
		d.told = 0 // the broker has restarted, and counts from 0
	}
	d.seen, d.last = true, n
	if d.last > d.told && d.later == nil {
		d.later = time.AfterFunc(news.Every-time.Since(d.toldAt), d.tell)
	}
	return fresh
}

// tell logs what has been dropped since it was last told.
func (d *dropped) tell() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.later = nil
	if d.last > d.told {
		d.logger.Warn("the broker has dropped messages; raise its max_queued_messages",
			"dropped", d.last-d.told, "since_broker_start", d.last)
		d.told, d.toldAt = d.last, time.Now()
	}
}
