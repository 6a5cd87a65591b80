package e2e

import (
	"context"
	"time"

	"github.com/mqttetl/mqttetl/test/service"
)

// silence is how long a broker may send nothing while messages that it has
// acknowledged are missing: longer than any pause between attempts to connect.
const silence = 30 * time.Second

// Delivered waits until the service has drained what it was sent and the archive
// holds every acknowledged message, or nothing has come for a while: what is
// missing then is for CheckAcknowledged to tell. The number of records says
// nothing, for redelivered messages are records too.
func Delivered(ctx context.Context, s *service.Service, acknowledged map[string]string) error {
	var seen uint64
	for {
		st, err := s.Drained(ctx, max(len(acknowledged), int(seen)))
		if err != nil {
			return err
		}
		rows, err := ReadArchive(s.Archive())
		if err != nil {
			return err
		}
		if _, err := CheckAcknowledged(rows, acknowledged); err == nil {
			return nil
		}
		quiet, cancel := context.WithTimeout(ctx, silence)
		_, err = s.Await(quiet, "more records", func(now service.Status) bool { return now.Log.Last > st.Log.Last })
		cancel()
		if err != nil {
			return ctx.Err()
		}
		seen = st.Log.Last + 1
	}
}
