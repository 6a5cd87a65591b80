package compare

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listenerOf is the process that listens at a URL's port on this machine, 0 if
// it is another machine's, or a process into which we may not look.
func listenerOf(text string) int {
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
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil && sockets[to] {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			return pid
		}
	}
	return 0
}
