// Package processes names the other processes of this machine, for people who are
// to find the one that is in the way. Where there is no /proc it names none.
package processes

import (
	"bytes"
	"fmt"
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
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is good
	for _, link := range links {
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil || pid == os.Getpid() || slices.Contains(pids, pid) {
			continue
		}
		if to, err := os.Readlink(link); err == nil && to == path {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}
