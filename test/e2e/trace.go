package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Trace is the command that a Service is wrapped in so that EarlyAcks can read
// file. A fault to be injected is appended to it.
func Trace(file string) []string {
	return []string{"strace", "-f", "-q", "-ttt", "-yy", "-xx", "-s", "1048576", "-o", file,
		"-e", "trace=read,write,pwrite64,pwritev,writev,fdatasync"}
}

// EarlyAcks reads a trace of the service, subscribed at QoS 1 to broker,
// host:port. It counts the PUBACKs, and says of each whose write began before
// the commit of its message had reached the drive.
func EarlyAcks(file, broker string) (acks int, violations []string, err error) {
	calls, err := parseTrace(file)
	if err != nil {
		return 0, nil, err
	}
	acks, violations = checkTrace(calls, broker)
	return acks, violations, nil
}

// call is one system call; begin and end are positions in the trace, which
// strace writes in the order of entry and return.
type call struct {
	begin, end int
	name       string
	fd         string // with its path or addresses, as strace -yy shows it
	offset     int64  // of pwrite64
	data       []byte
	result     int
	failure    string // such as EIO
}

var (
	whole      = regexp.MustCompile(`^(\d+) +[\d.]+ (\w+)\((\d+<(?:TCPv?6?:\[.*?\]|[^>]*)>)(?:, (.*))?\) += (-?\d+)(?: (E[A-Z]+))?`)
	unfinished = regexp.MustCompile(`^(\d+) +[\d.]+ (\w+)\((\d+<(?:TCPv?6?:\[.*?\]|[^>]*)>),? ?(.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^(\d+) +[\d.]+ <\.\.\. (\w+) resumed>(.*)\) += (-?\d+)(?: (E[A-Z]+))?`)
	hexBytes   = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
	lastNumber = regexp.MustCompile(`, (\d+)$`)
)

// parseTrace reads the output of strace -f -ttt -yy -xx.
func parseTrace(path string) ([]call, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var calls []call
	open := map[string]call{} // of a thread, entered and not returned
	args := map[string]string{}
	in := bufio.NewScanner(f)
	in.Buffer(nil, 64<<20)
	for at := 0; in.Scan(); at++ {
		line := in.Text()
		if m := resumed.FindStringSubmatch(line); m != nil {
			c := open[m[1]]
			c.finish(args[m[1]]+m[3], m[4], m[5], at)
			calls = append(calls, c)
		} else if m := unfinished.FindStringSubmatch(line); m != nil {
			open[m[1]], args[m[1]] = call{begin: at, name: m[2], fd: unhex(m[3])}, m[4]
		} else if m := whole.FindStringSubmatch(line); m != nil {
			c := call{begin: at, name: m[2], fd: unhex(m[3])}
			c.finish(m[4], m[5], m[6], at)
			calls = append(calls, c)
		}
	}
	return calls, in.Err()
}

// finish fills in what is known when the call has returned.
func (c *call) finish(args, result, failure string, at int) {
	c.end, c.failure = at, failure
	c.result, _ = strconv.Atoi(result)
	for _, m := range hexBytes.FindAllStringSubmatch(args, -1) {
		c.data = append(c.data, unhex(m[1])...)
	}
	if m := lastNumber.FindStringSubmatch(args); m != nil {
		c.offset, _ = strconv.ParseInt(m[1], 10, 64)
	}
}

// unhex replaces strace's \xNN by the bytes.
func unhex(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			v, _ := strconv.ParseUint(s[i+2:i+4], 16, 8)
			b.WriteByte(byte(v))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// commit is one LMDB transaction as the trace shows it.
type commit struct{ begin, end int }

// commits finds the transactions that have reached the drive. One in which a
// call failed is none. Behind a failed sync there are no more, for nobody knows
// what the page cache holds then; but where it failed because the disk is full,
// a further transaction, which writes all of its pages again, counts.
func commits(calls []call) (all []commit) {
	begin := -1
	for _, c := range calls {
		switch {
		case !strings.Contains(c.fd, "/log/data.mdb") || c.name == "read":
		case c.failure == "ENOSPC":
			begin = -1
		case c.name == "fdatasync" && c.result < 0:
			return all
		case c.name == "fdatasync":
		case c.result < len(c.data):
			begin = -1
		default:
			if begin < 0 {
				begin = c.begin
			}
			if c.name == "pwrite64" && c.offset < 2*4096 && len(c.data) < 512 { // part of a meta page
				all = append(all, commit{begin, c.end})
				begin = -1
			}
		}
	}
	return all
}

// checkTrace looks for PUBACKs on the connections to broker that left too early.
func checkTrace(calls []call, broker string) (acks int, violations []string) {
	committed := commits(calls)
	connections := map[string]*[2]stream{} // inbound, outbound
	for _, c := range calls {
		if !strings.Contains(c.fd, "->"+broker) {
			continue
		}
		if connections[c.fd] == nil {
			connections[c.fd] = new([2]stream)
		}
		switch {
		case c.name == "read" && c.result > 0:
			connections[c.fd][0].add(c, c.data[:c.result])
		case c.name == "write" && c.result > 0:
			connections[c.fd][1].add(c, c.data[:c.result])
		}
	}
	for _, s := range connections {
		n, early := checkConnection(merge(s[0].packets(), s[1].packets()), committed)
		acks, violations = acks+n, append(violations, early...)
	}
	return acks, violations
}

// checkConnection checks the packets of one connection.
func checkConnection(events []packet, committed []commit) (acks int, violations []string) {
	received := map[uint16]call{} // by packet id, the PUBLISH not yet acknowledged
	for _, e := range events {
		switch {
		case e.inbound && e.kind == 3:
			received[e.id] = e.call
		case !e.inbound && e.kind == 4:
			acks++
			from, ok := received[e.id]
			if !ok {
				violations = append(violations, fmt.Sprintf("PUBACK %d without a PUBLISH", e.id))
				continue
			}
			delete(received, e.id)
			if !covered(committed, from.end, e.call.begin) {
				violations = append(violations, fmt.Sprintf("PUBACK %d at line %d of the trace: no commit since its PUBLISH at line %d", e.id, e.call.begin, from.end))
			}
		}
	}
	return acks, violations
}

// covered says whether a commit began after read and was over before write.
func covered(commits []commit, read, write int) bool {
	for _, c := range commits {
		if c.begin > read && c.end < write {
			return true
		}
	}
	return false
}

// stream is one direction of a connection: its bytes and the call of each.
type stream struct {
	data  []byte
	calls []call
	ends  []int // of each call, in data
}

func (s *stream) add(c call, p []byte) {
	s.data = append(s.data, p...)
	s.calls = append(s.calls, c)
	s.ends = append(s.ends, len(s.data))
}

// packet is an MQTT control packet and the call that moved its last byte
// (inbound) or its first (outbound).
type packet struct {
	inbound bool
	kind    byte
	id      uint16
	call    call
}

// packets splits the stream. PUBLISH packets have QoS 1.
func (s *stream) packets() []packet {
	var ps []packet
	at, n := 0, 0
	for off := 0; off+2 <= len(s.data); {
		size, k := binary.Uvarint(s.data[off+1:]) // the variable byte integer of MQTT is LEB128
		body := off + 1 + k
		end := body + int(size)
		if k <= 0 || end > len(s.data) {
			break
		}
		p := packet{kind: s.data[off] >> 4, inbound: s.data[off]>>4 == 3 || s.data[off]>>4 == 2}
		switch p.kind {
		case 3:
			if s.data[off]>>1&3 > 0 {
				topic := int(binary.BigEndian.Uint16(s.data[body:]))
				p.id = binary.BigEndian.Uint16(s.data[body+2+topic:])
			} else {
				p.kind = 0
			}
		case 4:
			p.id = binary.BigEndian.Uint16(s.data[body:])
		}
		for s.ends[n] < end { // the call that moved the last byte
			n++
		}
		for s.ends[at] <= off { // the call that moved the first byte
			at++
		}
		p.call = s.calls[at]
		if p.inbound {
			p.call = s.calls[n]
		}
		ps = append(ps, p)
		off = end
	}
	return ps
}

// merge orders the packets of both directions: an outbound one counts from
// where its write begins, an inbound one from where its read ends.
func merge(in, out []packet) []packet {
	var all []packet
	for len(in) > 0 || len(out) > 0 {
		if len(out) == 0 || len(in) > 0 && in[0].call.end < out[0].call.begin {
			all, in = append(all, in[0]), in[1:]
		} else {
			all, out = append(all, out[0]), out[1:]
		}
	}
	return all
}
