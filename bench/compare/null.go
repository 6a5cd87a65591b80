package compare

import (
	"bufio"
	"bytes"
	"net"

	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// The null servers accept and acknowledge, store nothing and deliver nothing:
// what the instrument reaches against them is the most that it could measure.

// nullMQTT serves one connection, with MQTT 3.1.1 and 5, until it ends.
func nullMQTT(c net.Conn) {
	in := wire.NewInput(readSize)
	var out []byte
	v5 := false
	for {
		first, body, ok, err := in.Packet()
		if err != nil {
			return
		}
		if !ok {
			if len(out) > 0 {
				if _, err := c.Write(out); err != nil {
					return
				}
				out = out[:0]
			}
			if in.Fill(c) != nil {
				return
			}
			continue
		}
		switch first >> 4 {
		case wire.Connect:
			login, err := wire.ReadConnect(body)
			if err != nil {
				return
			}
			v5 = login.Version == wire.Version5
			out = wire.AppendConnack(out, v5, wire.Answer{})
		case wire.Publish:
			out = nullAnswer(out, first, body, v5)
		case wire.Pubrel:
			a, err := wire.ReadAck(wire.Pubrel, body, v5)
			if err != nil {
				return
			}
			out = wire.AppendAck(out, wire.Pubcomp, a.ID)
		case wire.Pingreq:
			out = wire.AppendEmpty(out, wire.Pingresp)
		case wire.Disconnect:
			return
		}
	}
}

// nullAnswer appends what a PUBLISH is answered with.
func nullAnswer(out []byte, first byte, body []byte, v5 bool) []byte {
	h, _, err := wire.PublishHead(first, len(body), body, wire.Limits{V5: v5})
	switch qos := first >> 1 & 3; {
	case err != nil || qos == 0:
		return out
	case qos == 2:
		return wire.AppendAck(out, wire.Pubrec, h.ID)
	}
	return wire.AppendAck(out, wire.Puback, h.ID)
}

// nullNATS serves one connection until it ends. A message with a reply subject
// is answered as JetStream would, for which the client's own subscription to
// its inbox, the only one that counts, has to come first.
func nullNATS(c net.Conn) {
	in := bufio.NewReaderSize(c, readSize)
	out := bufio.NewWriterSize(c, natsBuffer)
	out.WriteString(`INFO {"server_id":"null","version":"2.10.0","proto":1,"headers":true,"max_payload":8388608}` + "\r\n")
	sid := []byte("1")
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(line, []byte("PUB ")):
			if !nullPub(in, out, line, sid) {
				return
			}
		case bytes.HasPrefix(line, []byte("PING")):
			out.WriteString("PONG\r\n")
		case bytes.HasPrefix(line, []byte("SUB ")):
			fields := bytes.Fields(line)
			sid = bytes.Clone(fields[len(fields)-1])
		}
	}
}

// nullPub takes PUB subject [reply] size, and the payload after it.
func nullPub(in *bufio.Reader, out *bufio.Writer, line, sid []byte) bool {
	line = bytes.TrimRight(line, "\r\n")
	_, n, _, ok := natsmsg.Sizes(line)
	if bytes.Count(line, []byte{' '}) == 3 {
		reply := line[:bytes.LastIndexByte(line, ' ')]
		reply = reply[bytes.LastIndexByte(reply, ' ')+1:]
		out.Write(natsmsg.AppendMsg(out.AvailableBuffer(), reply, sid, nullAck))
	}
	_, err := in.Discard(n + 2)
	return ok && err == nil
}

var nullAck = []byte(`{"stream":"NULL","seq":1}`)
