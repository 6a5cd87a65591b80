package compare

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"strconv"
)

// The null servers accept and acknowledge, store nothing and deliver nothing:
// what the instrument reaches against them is the most that it could measure.

// nullMQTT serves one connection, with MQTT 3.1.1 and 5, until it ends.
func nullMQTT(c net.Conn) {
	in := &input{conn: c, buf: make([]byte, readSize)}
	var out []byte
	version := byte(0)
	for {
		first, body, ok, err := in.packet()
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
			if in.fill() != nil {
				return
			}
			continue
		}
		switch first >> 4 {
		case typeConnect:
			if len(body) < 7 {
				return
			}
			if version = body[6]; version == 5 {
				out = append(out, typeConnack<<4, 3, 0, 0, 0)
			} else {
				out = append(out, typeConnack<<4, 2, 0, 0)
			}
		case typePublish:
			out = nullAnswer(out, first, body)
		case typePubrel:
			out = appendAck(out, typePubcomp<<4, binary.BigEndian.Uint16(body))
		case typePingreq:
			out = append(out, typePingresp<<4, 0)
		case typeDisconnect:
			return
		}
	}
}

// nullAnswer appends what a PUBLISH is answered with.
func nullAnswer(out []byte, first byte, body []byte) []byte {
	qos := first >> 1 & 3
	if qos == 0 || len(body) < 2 {
		return out
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	if len(body) < at+2 {
		return out
	}
	answer := byte(typePuback << 4)
	if qos == 2 {
		answer = typePubrec << 4
	}
	return appendAck(out, answer, binary.BigEndian.Uint16(body[at:]))
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

// nullPub takes PUB subject [reply] size, and the payload behind it.
func nullPub(in *bufio.Reader, out *bufio.Writer, line, sid []byte) bool {
	line = bytes.TrimRight(line, "\r\n")
	last := bytes.LastIndexByte(line, ' ')
	n := 0
	for _, b := range line[last+1:] {
		n = n*10 + int(b-'0')
	}
	if bytes.Count(line, []byte{' '}) == 3 {
		const ack = `{"stream":"NULL","seq":1}`
		reply := line[:last]
		reply = reply[bytes.LastIndexByte(reply, ' ')+1:]
		out.WriteString("MSG ")
		out.Write(reply)
		out.WriteByte(' ')
		out.Write(sid)
		out.WriteString(" " + strconv.Itoa(len(ack)) + "\r\n" + ack + "\r\n")
	}
	_, err := in.Discard(n + 2)
	return err == nil
}
