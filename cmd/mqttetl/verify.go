package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/self"
	"github.com/mqttetl/mqttetl/sink/history"
)

func newVerify(std streams) *cobra.Command {
	var path string
	var format outputFormat
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read the whole log and the archive's bookkeeping and report damage",
		Long: `Verify reads every record of the log against its checksum, looks for missing
sequence numbers, and checks that log and archive belong together and that the
archive's cursor agrees with its rows. It changes nothing and may run while the
service runs. It exits 0 when nothing is damaged, else 65.
archive.gaps are records that are in neither store: they were never archived, or the
archive was restored from an older copy. Gaps are no damage.`,
		Example: `  mqttetl verify
  mqttetl verify -c mqttetl.yaml -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := loadStores(path); err != nil {
				return err
			}
			v, err := verifyApart(cmd.Context(), path, std)
			if err != nil {
				return err
			}
			if err := format.write(std.out, verdictReport(v)); err != nil {
				return err
			}
			return verdictError(v)
		},
	}
	configFlag(cmd, &path)
	outputFlag(cmd, &format)
	return cmd
}

// errNotSelf: what was started is not this program.
var errNotSelf = errors.New("not this program")

// verifyApart has the files read by a child process: LMDB follows pointers in
// the file, and a damaged one can end the process that reads it by a signal. Where
// none can be started, as under an emulator, they are read in this one.
func verifyApart(ctx context.Context, configPath string, std streams) (*history.Verdict, error) {
	why := errNotSelf
	for _, program := range self.Paths() {
		v, err := verifyIn(ctx, program, configPath)
		if !errors.Is(err, errNotSelf) {
			return v, err
		}
		why = err
	}
	fmt.Fprintf(std.err, "mqttetl: reading in this process, which a badly damaged file may end: the program cannot start itself: %s\n", oneLine(why))
	cfg, err := loadStores(configPath)
	if err != nil {
		return nil, err
	}
	var all history.Found
	if err := readAll(ctx, cfg, func(f history.Found) error { all.Add(f); return ctx.Err() }); err != nil {
		return nil, err
	}
	return all.Verdict(), nil
}

// verifyIn has the files read by a process of the program at path; errNotSelf if
// that is not this one.
func verifyIn(ctx context.Context, path, configPath string) (*history.Verdict, error) {
	var complaint bytes.Buffer
	child := osexec.CommandContext(ctx, path, verifyRead, "--config", configPath)
	child.Stderr = &complaint
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSelf, err)
	}
	d := json.NewDecoder(out)
	var hello findings
	if d.Decode(&hello) != nil {
		hello.Program = ""
	}
	found := readFindings(d)
	io.Copy(io.Discard, out) // so that the process never waits for us
	err = child.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case hello.Program != thisBuild():
		return nil, fmt.Errorf("%w: %s: %v", errNotSelf, path, child.ProcessState)
	case err == nil && found.Log != nil:
		return found.Verdict(), nil
	case crashed(child.ProcessState):
		found.Log = &history.LogVerdict{Last: found.At, Damage: []string{
			fmt.Sprintf("record %d: reading on from here ended by %s", found.At, crash(complaint.String(), child.ProcessState)),
		}}
		return found.Verdict(), nil
	}
	return nil, childFailure(child.ProcessState.ExitCode(), complaint.String())
}

// childFailure takes apart what the reading process wrote by printError.
func childFailure(code int, complaint string) error {
	message, hint, _ := strings.Cut(strings.TrimSpace(complaint), "\nhint: ")
	err := error(childError{code, strings.TrimPrefix(message, "mqttetl: ")})
	if hint != "" {
		err = mqttetl.WithHint(err, hint)
	}
	return err
}

// childError is the failure of the reading process: its exit code and message.
type childError struct {
	code    int
	message string
}

func (e childError) Error() string { return e.message }

// readFindings puts together what the reading process has told before it ended.
func readFindings(d *json.Decoder) (all history.Found) {
	for {
		var f findings
		if d.Decode(&f) != nil {
			return all
		}
		all.Add(f.Found)
	}
}

// crashed tells whether the process died of what it read. Go's runtime turns
// SIGBUS, SIGSEGV and SIGABRT into exit code 2, which the reading process has
// no other use for.
func crashed(state *os.ProcessState) bool {
	if state.Exited() {
		return state.ExitCode() == exitUsage
	}
	w, ok := state.Sys().(syscall.WaitStatus)
	return ok && w.Signal() != syscall.SIGKILL
}

// crash names the signal that ended a process.
func crash(complaint string, state *os.ProcessState) string {
	for _, name := range []string{"SIGBUS", "SIGSEGV", "SIGABRT"} {
		if strings.Contains(complaint, name) {
			return name
		}
	}
	return state.String()
}

// verdictError is what a verdict means for the exit code.
func verdictError(v *history.Verdict) error {
	if v.Intact {
		return nil
	}
	n := v.Damages()
	return mqttetl.WithHint(fmt.Errorf("verify: %w in %d %s", mqttetl.ErrDamaged, n, choose(n == 1, "place", "places")), hintRestore)
}

// What to do about damage; docs/operate.md has it at length.
const (
	hintRestore = "restore a copy, or move both log.dir and archive.path aside: " +
		"a new log has a new id and refuses the old archive (docs/operate.md, When verify says damaged)"
	hintVerify = "`mqttetl verify` tells where; then " + hintRestore
)

// withDamageHint adds what to do to an error of damaged files that does not say.
func withDamageHint(err error) error {
	if errors.Is(err, mqttetl.ErrDamaged) && mqttetl.Hint(err) == "" {
		return mqttetl.WithHint(err, hintVerify)
	}
	return err
}

func verdictReport(v *history.Verdict) report {
	r := report{document: v, header: []string{"part", "state", "detail"}}
	r.addVerdict("log", fmt.Sprintf("records %d to %d, %d read", v.Log.First, v.Log.Last, v.Log.Records), v.Log.Damage)
	if a := v.Archive; a != nil {
		r.addVerdict("archive", fmt.Sprintf("at record %d", a.Cursor), a.Damage)
		for _, g := range a.Gaps {
			r.rows = append(r.rows, []string{"archive", "gap", fmt.Sprintf("records %d to %d were no longer in the log", g.First, g.Last)})
		}
	}
	return r
}

func (r *report) addVerdict(part, figures string, damage []string) {
	if len(damage) == 0 {
		r.rows = append(r.rows, []string{part, "intact", figures})
	}
	for _, d := range damage {
		r.rows = append(r.rows, []string{part, "damaged", d})
	}
}
