// Package processes names the other processes of this machine, for people who are
// to find the one that is in the way. Where there is no /proc it names none.
package processes

import (
	"bytes"
	"fmt"
	"iter"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Names names processes by number and command.
func Names(pids []int) string {
	const most = 5
	var names []string
	for i, pid := range pids {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(pids)-most))
			break
		}
		names = append(names, fmt.Sprintf("process %d (%s)", pid, command(pid)))
	}
	return strings.Join(names, ", ")
}

// command is what a process was started as.
func command(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return "unknown"
	}
	args := bytes.Split(bytes.TrimRight(line, "\x00"), []byte{0})
	text := string(bytes.Join(args[:min(len(args), 3)], []byte(" ")))
	return strings.Trim(strconv.Quote(text[:min(len(text), 80)]), `"`)
}

// openFiles are the files and sockets that processes have open, as far as this user
// may see.
func openFiles() iter.Seq2[int, string] {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is good
	return func(yield func(pid int, to string) bool) {
		for _, link := range links {
			pid, err := strconv.Atoi(strings.Split(link, "/")[2])
			if err != nil {
				continue
			}
			if to, err := os.Readlink(link); err == nil && !yield(pid, to) {
				return
			}
		}
	}
}

// WithOpen are the other processes that have the file open, as far as this user
// may see.
func WithOpen(path string) (pids []int) {
	path, err := filepath.Abs(path)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil
	}
	for pid, to := range openFiles() {
		if pid != os.Getpid() && to == path && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Listening is the process that listens at a URL's port on this machine, 0 if
// it is another machine's, or a process into which we may not look.
func Listening(text string) int {
	u, err := url.Parse(text)
	if err != nil || u.Port() == "" {
		return 0
	}
	addrs, err := net.LookupIP(u.Hostname())
	if err != nil || len(addrs) == 0 || !addrs[0].IsLoopback() {
		return 0
	}
	port, _ := strconv.Atoi(u.Port())
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(table)
		for line := range strings.Lines(string(text)) {
			const listening = "0A"
			// slot, local address, remote address, state, …, inode
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				sockets["socket:["+f[9]+"]"] = true
			}
		}
	}
	for pid, to := range openFiles() {
		if sockets[to] {
			return pid
		}
	}
	return 0
}

// Program is the file that a process runs.
func Program(pid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "a program that is not known"
	}
	return path
}
