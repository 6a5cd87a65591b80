package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// profiling is one more file of command mqttetl that makes it write CPU
// profiles, for builds that are to be profiled.
//
//go:embed profiling.go.txt
var profiling []byte

// moduleRoot is the directory of go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build builds mqttetl from the checkout. Its intermediate files go to dir.
func build(ctx context.Context, binary, dir string, profiled bool) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	args := []string{"build", "-trimpath", "-o", binary}
	if profiled {
		overlay, err := overlay(root, dir)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/mqttetl")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build mqttetl: %w: %s", err, out)
	}
	return nil
}

// overlay describes the additional file to the go command.
func overlay(root, dir string) (string, error) {
	source := filepath.Join(dir, "profiling.go")
	if err := os.WriteFile(source, profiling, 0o600); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(root, "cmd", "mqttetl", "zz_profiling.go"): source,
	}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, b, 0o600)
}
