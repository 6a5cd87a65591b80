package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/mqttetl/mqttetl/test/service"
)

// Campaigns are all campaigns, in the order of the report.
var Campaigns = []*Campaign{
	killCampaign(),
	stopCampaign(),
	faultCampaign(),
	fullCampaign(),
	roomCampaign(),
	networkCampaign(),
	hostileCampaign(),
	modelCampaign(),
	soakCampaign(),
	powerCutCampaign(),
	crashStatesCampaign(),
	damageCampaign(),
	clusterCampaign(),
}

// Campaign is one way to break things, and how it is known that it would be noticed.
type Campaign struct {
	Name    string // one word, for -prove.campaign
	Injects string // what is broken, for the report
	Short   int    // trials within go test
	Long    int    // trials within make prove

	// Skip says why the campaign cannot run here, such as not being root; "" if
	// it can. nil: it can run everywhere.
	Skip func() string
	// Without says why a part of the campaign is left out here; "" or nil: all is there.
	Without func() string
	// Run makes e.Trials trials. It returns an error if it could not make them:
	// what a trial has found is no error but stands in the Tally.
	Run func(ctx context.Context, e Env) (Tally, error)
	// Controls are what Run must find at fault.
	Controls []Control
}

// Control is a deliberately broken build or setting that its campaign must catch.
type Control struct {
	Name    string               // what is broken
	Replace map[string][2]string // of service.Build: file → old text → new text; nil: the product itself
	Setting func(*Env)           // changes what Run is given; nil: nothing
	Skip    func() string        // why it cannot run here, "" if it can; nil: it can run everywhere
	Trials  int                  // at the most; the first finding ends it
}

// Env is what a campaign runs with.
type Env struct {
	Bin     string               // the mqttetl program
	Dir     string               // an empty directory, deleted afterwards
	Trials  int                  // how many to make
	Seed    uint64               // of Rand
	Rand    *rand.Rand           // for choices that belong to no single trial
	Replace map[string][2]string // what Bin was built with, for a campaign that builds something else
	Only    string               // what a control is narrowed to, in words of its campaign; "": everything
	Control string               // name of the control that runs, "" for the campaign itself
	Log     func(format string, args ...any)

	said *time.Time // when More last said how far it is
}

// Trial returns the randomness of trial i. It is that of trial 0 of a run whose
// seed is higher by i, so that one trial can be replayed alone.
func (e Env) Trial(i int) *rand.Rand { return rand.New(rand.NewPCG(e.Seed+uint64(i), 1)) }

// More says whether there is another trial to make: not when all have been
// made, and not when a control has been caught.
func (e Env) More(t *Tally) bool {
	if e.said != nil && time.Since(*e.said) > time.Minute {
		*e.said = time.Now()
		e.Log("so far %v; %d to go", t, e.Trials-t.Trials)
	}
	return t.Trials < e.Trials && !(e.Control != "" && t.Failed())
}

// Tally is what the trials have found.
type Tally struct {
	Trials     int `json:"trials"`
	Messages   int `json:"messages"`   // acknowledged to their publisher
	Lost       int `json:"lost"`       // of these, not found
	Duplicated int `json:"duplicated"` // records that a store holds a second time
	// Redelivered counts messages that are further records because the broker
	// sent them again, or the publisher did: what QoS 1 allows.
	Redelivered int      `json:"redelivered"`
	Violations  []string `json:"violations,omitempty"` // everything else that must not be, with the trial
}

// Failed says whether anything was found.
func (t *Tally) Failed() bool { return t.Lost > 0 || t.Duplicated > 0 || len(t.Violations) > 0 }

// Violate notes something that must not be.
func (t *Tally) Violate(format string, args ...any) {
	t.Violations = append(t.Violations, fmt.Sprintf(format, args...))
}

// Add adds what another tally has found.
func (t *Tally) Add(o Tally) {
	t.Trials += o.Trials
	t.Messages += o.Messages
	t.Lost += o.Lost
	t.Duplicated += o.Duplicated
	t.Redelivered += o.Redelivered
	t.Violations = append(t.Violations, o.Violations...)
}

func (t *Tally) String() string {
	return fmt.Sprintf("%d trials, %d messages, %d lost, %d duplicated, %d redelivered, %d violations",
		t.Trials, t.Messages, t.Lost, t.Duplicated, t.Redelivered, len(t.Violations))
}

// Caught is how a control ended.
type Caught struct {
	Name   string `json:"name"`
	Caught bool   `json:"caught"`
	Trials int    `json:"trials"` // until it was, or all
}

// Plan is what does not differ between the campaigns of one run.
type Plan struct {
	Bin    string // the mqttetl program; the controls build their own
	Dir    string // for everything that is written
	Long   bool
	Trials int // 0: as many as the campaign says
	Seed   uint64
	Log    func(format string, args ...any)
}

// Prove runs the campaign and then its controls. The error says what could not
// be run, what was found, and which controls were not caught.
func (c *Campaign) Prove(ctx context.Context, p Plan) (*Result, error) {
	r := newResult(c, p)
	if c.Skip != nil {
		if r.Skipped = c.Skip(); r.Skipped != "" {
			return r, nil
		}
	}
	if c.Without != nil {
		r.Without = c.Without()
	}
	begun := time.Now()
	t, err := c.run(ctx, p, Env{Bin: p.Bin, Trials: c.trials(p)})
	r.Tally = t
	errs := []error{err}
	if t.Failed() {
		errs = append(errs, found(&t))
	}
	for _, control := range c.controls(p) {
		caught, err := c.control(ctx, p, control)
		r.Controls = append(r.Controls, caught)
		if err == nil && !caught.Caught {
			err = fmt.Errorf("control %q was not caught in %d trials", control.Name, caught.Trials)
		}
		errs = append(errs, err)
	}
	r.Took = time.Since(begun).Round(time.Second).String()
	if err := errors.Join(errs...); err != nil {
		return r, fmt.Errorf("campaign %s, seed %d: %w", c.Name, p.Seed, err)
	}
	return r, nil
}

func (c *Campaign) trials(p Plan) int {
	switch {
	case p.Trials > 0:
		return p.Trials
	case p.Long:
		return c.Long
	}
	return c.Short
}

// controls are those that can run here; within go test, where each costs a
// build, one of them, chosen by the seed.
func (c *Campaign) controls(p Plan) []Control {
	var can []Control
	for _, control := range c.Controls {
		if control.Skip == nil || control.Skip() == "" { // else as Without says
			can = append(can, control)
		}
	}
	if !p.Long && len(can) > 0 {
		i := p.Seed % uint64(len(can))
		can = can[i : i+1]
	}
	return can
}

// run makes the trials in a directory of their own.
func (c *Campaign) run(ctx context.Context, p Plan, e Env) (t Tally, err error) {
	if e.Dir, err = os.MkdirTemp(p.Dir, c.Name+"-"); err != nil {
		return t, err
	}
	defer os.RemoveAll(e.Dir)
	e.Seed, e.Rand = p.Seed, rand.New(rand.NewPCG(p.Seed, 0))
	begun := time.Now()
	e.said = &begun
	e.Log = func(format string, args ...any) { p.Log("%s: "+format, append([]any{c.label(e)}, args...)...) }
	t, err = c.Run(ctx, e)
	e.Log("%v", &t)
	if err != nil {
		return t, fmt.Errorf("%s after %d trials: %w", c.label(e), t.Trials, err)
	}
	return t, nil
}

func (c *Campaign) label(e Env) string {
	if e.Control == "" {
		return c.Name
	}
	return fmt.Sprintf("%s, control %q", c.Name, e.Control)
}

// control makes the trials of a control until it is caught.
func (c *Campaign) control(ctx context.Context, p Plan, control Control) (Caught, error) {
	e := Env{Bin: p.Bin, Trials: control.Trials, Control: control.Name, Replace: control.Replace}
	if control.Replace != nil {
		dir, err := os.MkdirTemp(p.Dir, "build-")
		if err != nil {
			return Caught{Name: control.Name}, err
		}
		defer os.RemoveAll(dir)
		if e.Bin, err = service.Build(ctx, dir, control.Replace); err != nil {
			return Caught{Name: control.Name}, fmt.Errorf("control %q: %w", control.Name, err)
		}
	}
	if control.Setting != nil {
		control.Setting(&e)
	}
	t, err := c.run(ctx, p, e)
	for i, v := range t.Violations {
		if i < 3 {
			p.Log("%s: finds %s", c.label(e), v)
		}
	}
	return Caught{control.Name, t.Failed(), t.Trials}, err
}

// found is the error for what a campaign has found.
func found(t *Tally) error {
	err := fmt.Errorf("%v", t)
	for i, v := range t.Violations {
		if i == 10 {
			return fmt.Errorf("%w\n… and %d more", err, len(t.Violations)-i)
		}
		err = fmt.Errorf("%w\n%s", err, v)
	}
	return err
}

// trialDir makes the directory of trial i. A trial removes it when it has found nothing.
func (e Env) trialDir(i int) (string, error) {
	dir := filepath.Join(e.Dir, fmt.Sprint(i))
	return dir, os.MkdirAll(dir, 0o750)
}
