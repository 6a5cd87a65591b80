package prove

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Result is one row of the report.
type Result struct {
	Campaign string   `json:"campaign"`
	Injects  string   `json:"injects"`
	Skipped  string   `json:"skipped,omitempty"` // why
	Without  string   `json:"without,omitempty"` // what was left out, and why
	Tally             // of the campaign itself, without its controls
	Controls []Caught `json:"controls"`
	Date     string   `json:"date"` // of the start, UTC
	Took     string   `json:"took"`
	Versions string   `json:"versions"`
	Command  string   `json:"command"`
}

// newResult is the row of a campaign that begins now.
func newResult(c *Campaign, p Plan) *Result {
	return &Result{
		Campaign: c.Name, Injects: c.Injects,
		Date: time.Now().UTC().Format(time.DateOnly), Versions: versions(p.Bin),
		Command: fmt.Sprintf("make prove CAMPAIGN=%s TRIALS=%d SEED=%d", c.Name, c.trials(p), p.Seed),
	}
}

// versions says what ran, on what.
func versions(bin string) string {
	var all []string
	for _, v := range []struct {
		name    string
		command []string
	}{
		{"", []string{bin, "version"}},
		{"", []string{"mosquitto", "-h"}},
		{"", []string{"nats-server", "-v"}},
		{"", []string{"strace", "-V"}},
		{"Linux ", []string{"uname", "-r"}},
	} {
		cmd := exec.Command(v.command[0], v.command[1:]...)
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		if path, err := lookPath(v.command[0]); err == nil {
			cmd.Path, cmd.Err = path, nil
		}
		out, _ := cmd.CombinedOutput() // mosquitto -h exits 3
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		all = append(all, v.name+line)
	}
	return strings.Join(append(all, fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())), "; ")
}

// lookPath looks in the sbin directories too, which an ordinary user's PATH lacks.
func lookPath(name string) (string, error) {
	for _, p := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: apt-get install %[1]s", name)
}

// ReadResults reads the results that a report was written from; none if there
// is no such file.
func ReadResults(path string) ([]*Result, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var rs []*Result
	return rs, json.Unmarshal(text, &rs)
}

// WriteReport replaces the rows of the campaigns that have run in dir/reliability.json
// and writes dir/reliability.md from all rows there are.
func WriteReport(dir string, ran []*Result) error {
	data := filepath.Join(dir, "reliability.json")
	rows, err := ReadResults(data)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	for _, r := range ran {
		rows = slices.DeleteFunc(rows, func(old *Result) bool { return old.Campaign == r.Campaign })
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(a, b *Result) int { return cmp.Compare(position(a.Campaign), position(b.Campaign)) })
	text, err := json.MarshalIndent(append([]*Result{}, rows...), "", "\t")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(data, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "reliability.md"), []byte(Report(rows)), 0o644)
}

// position of a campaign in Campaigns.
func position(name string) int {
	return slices.IndexFunc(Campaigns, func(c *Campaign) bool { return c.Name == name })
}

// Report is the text of docs/reliability.md.
func Report(rows []*Result) string {
	var b strings.Builder
	b.WriteString(preface)
	b.WriteString("| campaign | what is injected | trials | messages | lost | duplicated | redelivered | controls caught | date, duration |\n")
	b.WriteString("|---|---|--:|--:|--:|--:|--:|---|---|\n")
	for _, r := range rows {
		fmt.Fprintln(&b, r.row())
	}
	b.WriteString("\nEach row again, with the versions it ran with:\n\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "* %s: `%s`  \n  %s\n", r.Campaign, r.Command, r.Versions)
	}
	b.WriteString(limits)
	return b.String()
}

func (r *Result) row() string {
	if r.Skipped != "" {
		return fmt.Sprintf("| %s | %s | skipped: %s | | | | | | %s |", r.Campaign, r.Injects, r.Skipped, r.Date)
	}
	controls := make([]string, len(r.Controls))
	for i, c := range r.Controls {
		controls[i] = c.String()
	}
	trials := fmt.Sprint(r.Trials)
	if r.Without != "" {
		trials += ", without " + r.Without
	}
	if n := len(r.Violations); n > 0 {
		trials += fmt.Sprintf(", **%d violations**", n)
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %s | %s | %d | %s | %s, %s |", r.Campaign, r.Injects, trials, r.Messages,
		loud(r.Lost), loud(r.Duplicated), r.Redelivered, strings.Join(controls, "; "), r.Date, r.Took)
}

func (c Caught) String() string {
	if !c.Caught {
		return fmt.Sprintf("**not caught: %s**", c.Name)
	}
	return fmt.Sprintf("%s (trial %d)", c.Name, c.Trials)
}

// loud sets a number that should be 0.
func loud(n int) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("**%d**", n)
}

const preface = `# Reliability

> A message that mqttetl has acknowledged is on disk. Everything after that is catching up.

` + "`make prove`" + ` writes this file. A trial breaks something while a publisher sends numbered messages, lets everything
recover, and compares: published and acknowledged ⊆ log; archive = log; stream ⊇ log, in order and without a repeated Nats-Msg-Id.
*Lost* and *duplicated* must be 0. *Redelivered* are messages that the broker or the publisher sent again after a lost
acknowledgement and that are a second record for it, as QoS 1 allows. A *control* is a build or a setting that is broken on purpose:
the campaign must catch it, or its zeros would mean nothing; the number is the trial in which it did.

`

const limits = `
## What this cannot show

* **A drive that lies about flush.** The power cuts are cuts of the file system, not of a drive's cache: a drive that
  reports a flush as done and has not done it loses what it was given, here as everywhere.
* **Listeners.** The campaigns receive from brokers. Devices that connect to mqttetl itself are tested with kill -9 in ` + "`make test` (`test/e2e`)" + `,
  not with power cuts, full disks and failing drives.
* **The broker's own queue.** What a broker drops before it delivers was never acknowledged by mqttetl. Mosquitto keeps its queue
  in memory between two snapshots: when it is killed, the campaigns count what mqttetl had acknowledged and what the publisher
  sends again, not what Mosquitto had acknowledged to a publisher and lost.
* **The NATS server's disk.** A PubAck of a single server is not an fsync; a power cut of that machine can take confirmed
  messages back. mqttetl fills the stream up again as far as its log still goes back.
* **A broker that breaks QoS 2.** Mosquitto 2.0.11, cut off twice in a row, publishes messages again whose PUBREL it has sent, against
  MQTT 5 §4.3.3. Nothing tells them from new ones. The campaigns watch the wire: such records count as redelivered, any
  other second record of a QoS 2 message as a violation.
* **QoS 0** has no acknowledgement, so there is nothing that could be counted as lost.
* **What nobody thought of.** The campaigns inject the faults that they name. The controls show that each would see
  some broken builds, not that it would see all.
`
