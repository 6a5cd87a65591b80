package servers

// Pid is the process id of the running server, for tracing it.
func (m *Mosquitto) Pid() int { return m.cmd.Process.Pid }

// Pid is the process id of the running server, for tracing it; 0 if it is not running.
func (n *NATSProcess) Pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}
