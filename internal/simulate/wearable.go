package simulate

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// wearable is a wristband. Every second one sends JSON, the others the Heart
// Rate Measurement of Bluetooth (characteristic 0x2A37), time in front.
func wearable(n int, r *rand.Rand) thing {
	heart, oxygen, left := newWalk(r, 52, 150, 2.5), newWalk(r, 93, 100, 0.3), battery(r)
	steps := r.IntN(8000)
	id := fmt.Sprintf("%012x", identity("wearable", n)&0xffffffffffff)
	return func(now time.Time, send func(string, []byte)) {
		rate := heart.next()
		beat := 60000 / rate // ms
		first, second := beat+r.NormFloat64()*15, beat+r.NormFloat64()*15
		if n%2 == 0 {
			steps += r.IntN(3)
			send("wearable/"+id+"/heart_rate", fmt.Appendf(nil, `{"ts":%d,"hr":%.0f,"rr":[%.0f,%.0f],"spo2":%.0f,"steps":%d,"battery":%d}`,
				now.UnixMilli(), rate, first, second, oxygen.next(), steps, left()))
			return
		}
		b := binary.LittleEndian.AppendUint64(nil, uint64(now.UnixMilli()))
		b = append(b, 0x16, byte(rate)) // contact, intervals follow
		b = binary.LittleEndian.AppendUint16(b, uint16(first*1.024))
		send("wearable/"+id+"/hrm", binary.LittleEndian.AppendUint16(b, uint16(second*1.024)))
	}
}
