package simulate

import (
	"container/heap"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"
)

// Message is one message of one device.
type Message struct {
	At      time.Duration // since the start of the scenario
	Device  int           // number of the device, from 0, over all groups
	Topic   string
	Payload []byte
}

// A thing makes the messages of one occasion; now is the time of the reading.
type thing func(now time.Time, send func(topic string, payload []byte))

// Device is one simulated device. It belongs to one goroutine.
type Device struct {
	number int
	prefix string
	start  time.Time
	mean   time.Duration // between two messages
	jitter float64
	burst  int
	random *rand.Rand
	tell   thing

	next  time.Duration // when it tells something again
	queue []Message     // of the last occasion, those from head are to come
	head  int
}

// newDevice is the n-th device of a group whose first has the number first.
// Its randomness depends on the seed, the group's place and n alone.
func newDevice(s *Scenario, place, n, first int) *Device {
	g := &s.Groups[place]
	p := g.profile(n)
	r := rand.New(rand.NewPCG(s.Seed, uint64(place)<<32|uint64(n)))
	rate := g.Rate
	if rate == 0 {
		rate = float64(g.Devices) // as if each told something once a second
	}
	d := &Device{
		number: first + n, prefix: join(s.Prefix, g.Prefix), start: s.Start,
		mean:   time.Duration(float64(time.Second) * float64(g.Devices) / rate),
		jitter: g.Jitter, burst: g.Burst, random: r, tell: p.make(g.serial(n), r),
	}
	if d.burst == 0 {
		d.burst = p.burst
	}
	d.mean = max(d.mean, 1)
	messages := d.burst * p.each[g.serial(n)%len(p.each)]
	d.next = g.After + time.Duration(r.Float64()*float64(d.mean)*float64(messages)) // not all at the same moment
	return d
}

// join puts topic levels together, either of which may be empty.
func join(a, b string) string { return strings.Trim(a+"/"+b, "/") }

// Next returns the device's next message. Its payload is the caller's.
func (d *Device) Next() Message {
	for d.head == len(d.queue) {
		d.occasion()
	}
	m := d.queue[d.head]
	d.head++
	return m
}

// occasion fills the queue. In a burst the device tells what it has read while
// it was silent, so the readings are spread over that time, and the mean rate
// does not depend on the burst.
func (d *Device) occasion() {
	d.queue, d.head = d.queue[:0], 0
	at := d.next
	send := func(topic string, payload []byte) {
		d.queue = append(d.queue, Message{At: at, Device: d.number, Topic: join(d.prefix, topic), Payload: payload})
	}
	for i := range d.burst {
		d.tell(d.start.Add(at-time.Duration(d.burst-1-i)*d.mean), send)
	}
	wait := float64(d.mean) * float64(len(d.queue)) * (1 + d.jitter*(2*d.random.Float64()-1))
	d.next += max(time.Duration(wait), 1)
}

// Fleet is all devices of a scenario. It belongs to one goroutine.
type Fleet struct {
	devices queue
	count   uint64 // messages left; with limit
	limited bool
}

// New returns the devices of a scenario without errors (Scenario.Check).
func New(s *Scenario) *Fleet {
	f := &Fleet{count: s.Count, limited: s.Count > 0}
	for _, d := range Devices(s) {
		f.devices = append(f.devices, pending{d, d.Next()})
	}
	heap.Init(&f.devices)
	return f
}

// Devices returns the devices of a scenario one by one, for a caller that lets
// each send by itself. Scenario.Count and Duration do not bound them.
func Devices(s *Scenario) []*Device {
	var all []*Device
	for place, g := range s.Groups {
		first := len(all)
		for n := range g.Devices {
			all = append(all, newDevice(s, place, n, first))
		}
	}
	return all
}

// Next returns the next message in the order of time, false at the end of a
// scenario that counts its messages.
func (f *Fleet) Next() (Message, bool) {
	if f.limited && f.count == 0 || len(f.devices) == 0 {
		return Message{}, false
	}
	f.count--
	p := &f.devices[0]
	m := p.message
	p.message = p.device.Next()
	heap.Fix(&f.devices, 0)
	return m, true
}

// pending is a device with its next message.
type pending struct {
	device  *Device
	message Message
}

// queue is a heap of devices, the one that sends first on top.
type queue []pending

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	a, b := q[i].message, q[j].message
	return a.At < b.At || a.At == b.At && a.Device < b.Device
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push and Pop are heap.Interface's; a fleet neither grows nor shrinks.
func (q *queue) Push(x any) { *q = append(*q, x.(pending)) }

// Pop removes the last device.
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// identity is a number that belongs to a name, for serial numbers and MAC addresses.
func identity(kind string, n int) uint64 {
	h := fnv.New64a()
	h.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
	h.Write([]byte(kind))
	return h.Sum64()
}
