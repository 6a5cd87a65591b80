package e2e

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

// A destination that goes away halfway ends the replay with exit code 69 and
// keeps the position; when it is back, the same command goes on.
func TestReplayToADestinationThatVanishes(t *testing.T) {
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.db")
	fill(t, path, played)
	broker, err := servers.StartMosquitto(t.TempDir(), brokerConf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Kill() })
	server, err := servers.StartNATSProcess(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Kill() })
	for _, c := range []struct {
		name          string
		to            []string
		kill, restart func() error
	}{
		{"MQTT", []string{"--to", broker.URL}, broker.Kill, broker.Restart},
		{"core NATS", []string{"--to", server.URL()}, server.Kill, server.Restart},
		{"JetStream", []string{"--to", server.URL(), "--stream", "S"}, server.Kill, server.Restart},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			position := filepath.Join(t.TempDir(), "position")
			args := append([]string{"replay", "--archive", path, "--resume", position}, c.to...)
			var out bytes.Buffer
			cmd := exec.CommandContext(ctx, bin, slices.Concat(args, paced[0])...)
			cmd.Stderr = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for tick := time.NewTicker(time.Millisecond); recordedPosition(position) < 2000; <-tick.C {
				if ctx.Err() != nil {
					t.Fatal(ctx.Err())
				}
			}
			if err := c.kill(); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 69 {
				t.Fatalf("%v, want exit 69\n%s", err, out.String())
			}
			if !strings.Contains(out.String(), "the position is kept") {
				t.Errorf("it does not say that it can go on:\n%s", out.String())
			}
			at := recordedPosition(position)
			if at < 2000 || at >= played {
				t.Fatalf("position %d", at)
			}
			if err := c.restart(); err != nil {
				t.Fatal(err)
			}
			text, err := exec.CommandContext(ctx, bin, slices.Concat(args, paced[1])...).CombinedOutput()
			if err != nil || recordedPosition(position) != played {
				t.Fatalf("position %d, %v\n%s", recordedPosition(position), err, text)
			}
			if c.name != "JetStream" {
				return
			}
			got, err := ReadStream(ctx, server.URL(), "S")
			if err != nil || len(got) != played {
				t.Errorf("the stream has %d messages, %v", len(got), err)
			}
		})
	}
}
