package natsmsg

import (
	"bytes"
	"math"
	"strconv"
)

// The frames of the protocol, where they are written or read past nats.go
// (https://docs.nats.io/reference/reference-protocols/nats-protocol).

// A Framer writes PUB and HPUB. Most messages are as long as the one before, and
// what it has written of that one it writes again.
type Framer struct {
	header, total int // of the message before
	end           []byte
}

// AppendPub appends a message with its command: PUB, or HPUB if it has a header.
// reply is where an answer is wanted, "" for none.
func (f *Framer) AppendPub(dst []byte, m *Message, reply string) []byte {
	if len(m.Header) > 0 {
		dst = append(dst, 'H')
	}
	dst = append(append(dst, "PUB "...), m.Subject...)
	if reply != "" {
		dst = append(append(dst, ' '), reply...)
	}
	if total := m.Size(); len(f.end) == 0 || len(m.Header) != f.header || total != f.total {
		f.header, f.total = len(m.Header), total
		f.end = f.end[:0]
		if f.header > 0 {
			f.end = strconv.AppendInt(append(f.end, ' '), int64(f.header), 10)
		}
		f.end = strconv.AppendInt(append(f.end, ' '), int64(total), 10)
		f.end = append(f.end, "\r\n"...)
	}
	dst = append(append(append(dst, f.end...), m.Header...), m.Body...)
	return append(dst, "\r\n"...)
}

// AppendMsg appends a message as a server sends it to the subscription sid.
func AppendMsg(dst, subject, sid, body []byte) []byte {
	dst = append(append(append(dst, "MSG "...), subject...), ' ')
	dst = strconv.AppendInt(append(append(dst, sid...), ' '), int64(len(body)), 10)
	dst = append(append(dst, "\r\n"...), body...)
	return append(dst, "\r\n"...)
}

// Sizes is how many bytes follow a control line, CR LF after them not counted, and how
// many of them are the header. A line that no message follows has 0; ok is false if it
// is a message's and says no size. A size beyond any number is the largest.
func Sizes(line []byte) (header, total int, message, ok bool) {
	verb, rest, _ := bytes.Cut(line, []byte(" "))
	withHeader := false
	switch string(verb) {
	case "HPUB", "HMSG":
		withHeader = true
	case "PUB", "MSG":
	default:
		return 0, 0, false, true
	}
	at := bytes.LastIndexByte(rest, ' ')
	if total, ok = decimal(rest[at+1:]); !ok || at < 0 {
		return 0, 0, true, false
	}
	if withHeader {
		rest = rest[:at]
		if header, ok = decimal(rest[bytes.LastIndexByte(rest, ' ')+1:]); !ok || header > total {
			return 0, 0, true, false
		}
	}
	return header, total, true, true
}

// decimal reads digits only.
func decimal(digits []byte) (n int, ok bool) {
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt-9)/10 {
			n = math.MaxInt / 10
			continue
		}
		n = 10*n + int(c-'0')
	}
	return n, len(digits) > 0
}

// A Frame is one command, with its message if it has one.
type Frame struct {
	Line         []byte // without CR LF
	Message      bool
	Header, Body []byte
}

// ReadFrame takes the command at the front of p and says how long it is, 0 if it is not
// whole; ok is false if it is no command.
func ReadFrame(p []byte) (f Frame, size int, ok bool) {
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		return f, 0, true
	}
	f.Line = bytes.TrimRight(p[:end], "\r")
	header, total, message, ok := Sizes(f.Line)
	if !ok || !message {
		return f, end + 1, ok
	}
	p = p[end+1:]
	if len(p) < 2 || len(p)-2 < total {
		return f, 0, true
	}
	f.Message, f.Header, f.Body = true, p[:header], p[header:total]
	return f, end + 1 + total + 2, string(p[total:total+2]) == "\r\n"
}
