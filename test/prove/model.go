package prove

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/mqttetl/mqttetl/test/service"
)

func modelCampaign() *Campaign {
	return &Campaign{
		Name:    "model",
		Injects: "random operations on the log beside a model in memory: append, failing commit, read, cursor, trim, dead letter, packet id, crash, reopen",
		Short:   1000, Long: 20000,
		Run: modelRun,
		Controls: []Control{
			{Name: "trimmed one record too far", Replace: map[string][2]string{"sink/wal/transaction.go": {
				"at > upTo+1", "at > upTo+2",
			}}, Trials: 2000},
			{Name: "a failed commit taken for done", Replace: map[string][2]string{"sink/wal/commit.go": {
				"err := l.update(t.write)", "err := l.update(t.write)\n\terr = nil",
			}}, Trials: 2000},
		},
	}
}

// modelRun runs the model test of the log as often as there are trials.
func modelRun(ctx context.Context, e Env) (t Tally, err error) {
	bin, err := service.BuildTest(ctx, e.Dir, "./sink/wal", e.Replace)
	if err != nil {
		return t, err
	}
	cmd := exec.CommandContext(ctx, bin, "-test.run", "^TestModel$", "-rapid.nofailfile",
		"-rapid.checks", fmt.Sprint(e.Trials), "-rapid.seed", fmt.Sprint(e.Seed))
	cmd.Dir = e.Dir
	out, err := cmd.CombinedOutput()
	t.Trials = e.Trials
	if _, failed := err.(*exec.ExitError); failed {
		t.Violate("%s", tail(string(out), 1000))
		return t, nil
	}
	return t, err
}
