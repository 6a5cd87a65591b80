package door

import "syscall"

// otherFiles are those that are open beside the connections: the log, the archive, http.
const otherFiles = 512

// fitFiles has max_connections files to open, or lowers it to those that the system allows.
// Go has raised the soft limit to the hard one, unless it was lowered again.
func (d *Door) fitFiles() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return
	}
	if most := connectionsFor(uint64(l.Cur), d.cfg.MaxConnections); most < d.cfg.MaxConnections && l.Cur < l.Max {
		raised := l
		raised.Cur = raised.Max
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			l = raised
		}
	}
	most := connectionsFor(uint64(l.Cur), d.cfg.MaxConnections)
	if most < d.cfg.MaxConnections {
		d.logger.Warn("max_connections is more than the open files that the system allows, and is lowered",
			"max_connections", d.cfg.MaxConnections, "lowered_to", most, "open_files", uint64(l.Cur),
			"hint", "raise the hard limit: ulimit -Hn, LimitNOFILE of systemd, --ulimit nofile of Docker")
	}
	d.cfg.MaxConnections = most
}

// connectionsFor is how many of the wanted connections may be open with so many files.
func connectionsFor(files uint64, wanted int) int {
	if files >= uint64(wanted)+otherFiles {
		return wanted
	}
	return max(1, min(wanted, int(files-min(otherFiles, files/2))))
}
