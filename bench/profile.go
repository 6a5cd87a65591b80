package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mqttetl/mqttetl/test/service"
)

// profilePath is the file for the CPU profile of a trial, empty if none is wanted.
func (t *trial) profilePath() string {
	if t.profiles == "" {
		return ""
	}
	stage := strings.ReplaceAll(t.stage.name, " + ", "-")
	return filepath.Join(t.profiles, fmt.Sprintf("%s-%d-%d-%d.pprof", stage, t.shape.Payload, t.shape.Window, t.count))
}

// beginProfile begins the profile of a trial; end returns when it is written.
func (t *trial) beginProfile() (end func() error) {
	path := t.profilePath()
	if path == "" {
		return func() error { return nil }
	}
	os.Remove(path) // of an earlier run
	t.program.Signal(syscall.SIGUSR1)
	return func() error {
		t.program.Signal(syscall.SIGUSR1)
		_, err := t.program.await("profiled", func(*service.Status) bool {
			_, err := os.Stat(path)
			return err == nil
		})
		return err
	}
}
