package service

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Replace changes source files for one build: file, relative to the module's root
// → old text → new text. An old text that the file does not hold once is an error;
// with no old text the file is a new one. So a test proves that it would notice a
// broken build.
type Replace map[string][2]string

// Build compiles the mqttetl command from the checkout into dir.
func Build(ctx context.Context, dir string, replace Replace) (bin string, err error) {
	bin = filepath.Join(dir, "mqttetl")
	return bin, compile(ctx, dir, replace, "build", "-ldflags", stamp(ctx), "-o", bin, "./cmd/mqttetl")
}

// BuildTest is Build for the tests of a package, such as ./sink/wal.
func BuildTest(ctx context.Context, dir, pkg string, replace Replace) (bin string, err error) {
	bin = filepath.Join(dir, filepath.Base(pkg)+".test")
	return bin, compile(ctx, dir, replace, "test", "-c", "-o", bin, pkg)
}

// stamp is what the Makefile gives the linker, so that a report can name the
// commit; nothing outside of a git checkout.
func stamp(ctx context.Context) string {
	git := func(args ...string) string {
		out, _ := exec.CommandContext(ctx, "git", args...).Output()
		return strings.TrimSpace(string(out))
	}
	commit := git("rev-parse", "HEAD")
	if commit == "" {
		return ""
	}
	return "-X main.commit=" + commit + " -X main.version=" + git("describe", "--tags", "--always", "--dirty")
}

// compile runs the go command in the module's root.
func compile(ctx context.Context, dir string, replace Replace, verb string, args ...string) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	root := strings.TrimSpace(string(out))
	if len(replace) > 0 {
		overlay, err := writeOverlay(dir, root, replace)
		if err != nil {
			return err
		}
		args = append([]string{"-overlay", overlay}, args...)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{verb}, args...)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s %s: %w\n%s", verb, args[len(args)-1], err, out)
	}
	return nil
}

// writeOverlay describes the changed files to the go command.
func writeOverlay(dir, root string, replace Replace) (string, error) {
	overlay := map[string]map[string]string{"Replace": {}}
	for name, change := range replace {
		path := filepath.Join(root, name)
		text := change[1]
		if change[0] != "" {
			src, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			if n := strings.Count(string(src), change[0]); n != 1 {
				return "", fmt.Errorf("%s holds the text to be replaced %d times: %s", name, n, change[0])
			}
			text = strings.Replace(string(src), change[0], change[1], 1)
		}
		changed := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay["Replace"][path] = changed
	}
	p, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, p, 0o600)
}
