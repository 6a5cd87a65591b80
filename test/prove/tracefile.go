package prove

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tracedCall is one system call of a recording made by strace -f -yy -xx.
type tracedCall struct {
	begin, end int // lines on which it was entered and returned; end is the last line + 1 if it never did
	name       string
	args       string // without the brackets
	result     int64  // -1: an error, or it never returned
}

// readTrace reads the output of strace. The lines count from first. Calls are
// in the order in which they returned, those that never did at the end.
func readTrace(path string, first int) (calls []tracedCall, next int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, first, err
	}
	defer f.Close()
	entered := map[string]tracedCall{} // by thread
	in := bufio.NewScanner(f)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	at := first
	for ; in.Scan(); at++ {
		thread, text, _ := strings.Cut(in.Text(), " ")
		text = strings.TrimLeft(text, " ")
		c := tracedCall{begin: at}
		if rest, ok := strings.CutPrefix(text, "<... "); ok {
			_, rest, _ = strings.Cut(rest, " resumed>")
			c = entered[thread]
			delete(entered, thread)
			text = c.name + "(" + c.args + rest
		}
		name, rest, ok := strings.Cut(text, "(")
		if !ok || strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---") {
			continue
		}
		c.name = name
		if args, ok := strings.CutSuffix(rest, " <unfinished ...>"); ok {
			c.args = args
			entered[thread] = c
			continue
		}
		if c.finish(rest) {
			c.end = at
			calls = append(calls, c)
		}
	}
	for _, c := range entered {
		c.end, c.result = at, -1
		calls = append(calls, c)
	}
	return calls, at + 1, in.Err()
}

// finish takes the arguments and the result apart. It is false for a call
// whose result is not known because the process was killed within it.
func (c *tracedCall) finish(text string) bool {
	i := strings.LastIndex(text, "= ")
	if i < 0 {
		return false
	}
	result, _, _ := strings.Cut(text[i+2:], " ")
	result, _, _ = strings.Cut(result, "<")
	n, err := strconv.ParseInt(result, 0, 64)
	c.result = n
	if err != nil { // "?"
		c.result = -1
	}
	c.args = strings.TrimSuffix(strings.TrimRight(text[:i], " "), ")")
	return true
}

// descriptor splits "5<\x2f…>, …" into the number, the path or the addresses
// behind it, and the arguments that follow.
func descriptor(args string) (fd int, name, rest string, ok bool) {
	i := strings.IndexByte(args, '<')
	if i < 0 {
		return 0, "", "", false
	}
	fd, err := strconv.Atoi(args[:i])
	if args[:i] == "AT_FDCWD" {
		fd, err = -1, nil
	}
	if err != nil {
		return 0, "", "", false
	}
	end, skip := strings.IndexByte(args[i:], '>'), 1
	if strings.HasPrefix(args[i:], "<TCP") {
		end, skip = strings.Index(args[i:], "]>"), 2
	}
	if end < 0 {
		return 0, "", "", false
	}
	name = string(unescape(args[i+1 : i+end]))
	return fd, name, strings.TrimPrefix(args[i+end+skip:], ", "), true
}

// unescape decodes strace's \xNN, and leaves everything else as it is.
func unescape(s string) []byte {
	p := make([]byte, 0, len(s)/4)
	for i := 0; i < len(s); {
		if i+3 < len(s) && s[i] == '\\' && s[i+1] == 'x' {
			p, _ = hex.AppendDecode(p, []byte(s[i+2:i+4]))
			i += 4
			continue
		}
		p = append(p, s[i])
		i++
	}
	return p
}

// texts are the strings among the arguments, and what follows the last of them.
func texts(args string) (all [][]byte, rest string) {
	for {
		i := strings.IndexByte(args, '"')
		if i < 0 {
			return all, args
		}
		j := strings.IndexByte(args[i+1:], '"')
		if j < 0 {
			return all, args[i+1:]
		}
		all = append(all, unescape(args[i+1:i+1+j]))
		args = args[i+j+2:]
	}
}

// paths are the one or two paths of openat, rename, unlink and their like.
func (c *tracedCall) paths() (all []string) {
	args := c.args
	for len(all) < 2 {
		dir := ""
		if _, name, rest, ok := descriptor(args); ok && !strings.HasPrefix(args, `"`) {
			dir, args = name, rest
		}
		i := strings.IndexByte(args, '"')
		if i != 0 {
			return all
		}
		j := strings.IndexByte(args[1:], '"')
		if j < 0 {
			return all
		}
		path := string(unescape(args[1 : 1+j]))
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		all = append(all, path)
		args = strings.TrimPrefix(args[j+2:], ", ")
	}
	return all
}

// numbers are the decimal numbers at the end of the arguments.
func numbers(rest string) (all []int64) {
	for part := range strings.SplitSeq(rest, ",") {
		if n, err := strconv.ParseInt(strings.TrimSpace(part), 0, 64); err == nil {
			all = append(all, n)
		}
	}
	return all
}
