package forward

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// The short way reads what the long one reads, or leaves it alone.
func TestPlainAck(t *testing.T) {
	for data, want := range map[string]uint64{
		`{"stream":"S", "seq":7}`:                    7,
		`{"stream":"S", "seq":18446744073709551615}`: 1<<64 - 1,
		`{"stream":"S", "seq":18446744073709551616}`: 0,
		`{"stream":"S", "seq":7,"duplicate":true}`:   0,
		`{"stream":"S","domain":"hub","seq":7}`:      0,
		`{"stream":"SS", "seq":7}`:                   0,
		`{"stream":"T", "seq":7}`:                    0,
		`{"stream":"S", "seq":}`:                     0,
		`{"stream":"S", "seq":7`:                     0,
		`{"stream":"S", "seq":+7}`:                   0,
		`{"stream":"S"}`:                             0,
		`{"stream":"S","seq":7}`:                     7, // of a cluster
		``:                                           0,
	} {
		got := plainAck([]byte(data), "S")
		if got != want {
			t.Errorf("plainAck(%s) = %d, want %d", data, got, want)
		}
		if ans, err := parseAnswer(&nats.Msg{Data: []byte(data)}); got != 0 && (err != nil || ans.Seq != got || ans.Stream != "S" || ans.Duplicate) {
			t.Errorf("%s: %d, but in full %+v, %v", data, got, ans, err)
		}
	}
	ack := []byte(`{"stream":"S", "seq":7}`)
	if n := testing.AllocsPerRun(100, func() { plainAck(ack, "S") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
