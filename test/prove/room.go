package prove

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/mqttetl/mqttetl/test/service"
)

func roomCampaign() *Campaign {
	return &Campaign{
		Name: "room",
		Injects: "the log alone on a full disk of 16 to 64 MiB (tmpfs, or a limit of the size of files), filled again and again by 1 to 4 sources " +
			"with payloads of 64 B to 4 MiB: when all is consumed it goes on and takes what an empty log there takes",
		Short: 1, Long: 500,
		Skip: needMount,
		Run:  roomRun,
		Controls: []Control{
			{Name: "trimmed, but free pages neither age nor are gathered", Replace: map[string][2]string{"sink/wal/reclaim.go": {
				"if l.segments == 1 && l.last >= l.first", "if true {\n\t\treturn nil\n\t}\n\tif l.segments == 1 && l.last >= l.first",
			}}, Trials: 20},
			{Name: "free pages not put in order", Replace: map[string][2]string{"sink/wal/reclaim.go": {
				"|| round == 0 || !full.pages || !l.isEmpty() {", "|| true {",
			}}, Trials: 20},
		},
	}
}

// roomRun runs the tests of the log on a full disk once a trial.
func roomRun(ctx context.Context, e Env) (Tally, error) {
	bin, err := service.BuildTest(ctx, e.Dir, "./sink/wal", e.Replace)
	if err != nil {
		return Tally{}, err
	}
	e.Bin = bin
	return eachTrial(ctx, e, roomTrial)
}

// roomTook is how the test says what the log has taken.
var roomTook = regexp.MustCompile(`took (\d+) messages`)

func roomTrial(ctx context.Context, e Env, dir string, _ *rand.Rand, t *Tally) error {
	seed := e.Seed + uint64(t.Trials)
	stuck := "10s"
	if e.Control != "" { // which is stuck for ever
		stuck = "4s"
	}
	cmd := exec.CommandContext(ctx, e.Bin, "-test.run", "^TestFull(Trials|Late)$", "-test.v", "-test.failfast",
		"-wal.full", "1", "-wal.seed", strconv.FormatUint(seed, 10), "-wal.stuck", stuck)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	if _, failed := err.(*exec.ExitError); failed {
		t.Violate("trial %d (seed %d): %s", t.Trials, seed, tail(string(out), 1500))
		return nil
	} else if err != nil {
		return err
	}
	took := roomTook.FindSubmatch(out)
	if took == nil {
		return fmt.Errorf("the test does not say what the log took: %s", tail(string(out), 1000))
	}
	n, err := strconv.Atoi(string(took[1]))
	t.Messages += n
	return err
}
