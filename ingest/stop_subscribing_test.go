package ingest

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// TestStopWhileSubscribing: a source stops within a second although the broker
// does not answer its SUBSCRIBE, nor close the connection after DISCONNECT.
func TestStopWhileSubscribing(t *testing.T) {
	for _, version := range []string{Version5, Version311} {
		t.Run(version, func(t *testing.T) {
			asked := make(chan struct{})
			b := &picky{with: func(c net.Conn, level byte, _ int) bool {
				connack := []byte{wire.Connack << 4, 2, 0, 0}
				if level == 5 {
					connack = []byte{wire.Connack << 4, 3, 0, 0, 0}
				}
				_, _ = c.Write(connack)
				_, _ = c.Read(make([]byte, 1))
				close(asked)
				_, _ = io.Copy(io.Discard, c)
				return false
			}}
			s := newSource(t, Config{URL: "mqtt://" + b.start(t), ClientID: "c", Version: version, Subscribe: []string{"t"}}, newFakeLog(t))
			stop := start(t, s)
			<-asked
			begun := time.Now()
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > time.Second {
				t.Errorf("the stop took %v", took)
			}
		})
	}
}
