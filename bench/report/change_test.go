package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/bench/compare"
)

func changed(t *testing.T, was, is *compare.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := Compare(&b, was, is); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestJudge(t *testing.T) {
	s := func(low, median, high float64, n int) compare.Spread {
		return compare.Spread{Low: low, Median: median, High: high, N: n}
	}
	for _, c := range []struct {
		was, is      compare.Spread
		ofRate, cost Verdict
	}{
		{s(90, 100, 110, 3), s(90, 100, 110, 3), Within, Within},
		{s(90, 100, 110, 3), s(111, 120, 131, 3), Within, Within}, // apart, but not by enough
		{s(90, 100, 110, 3), s(125, 130, 135, 3), Within, Within},
		{s(125, 130, 135, 3), s(90, 100, 110, 3), Within, Within},
		{s(90, 100, 110, 3), s(131, 140, 151, 3), Better, Worse},
		{s(131, 140, 151, 3), s(90, 100, 110, 3), Worse, Better},
		{s(100, 100, 100, 2), s(101, 101, 101, 2), Better, Worse},
		{s(100, 100, 100, 2), s(100, 100, 100, 2), Within, Within},
		{s(100, 100, 100, 1), s(900, 900, 900, 3), Untold, Untold},
		{s(100, 100, 100, 3), s(900, 900, 900, 1), Untold, Untold},
	} {
		if got := verdictOf(c.was, c.is, false); got != c.ofRate {
			t.Errorf("rate %v → %v: %s", c.was, c.is, got)
		}
		if got := verdictOf(c.was, c.is, true); got != c.cost {
			t.Errorf("cost %v → %v: %s", c.was, c.is, got)
		}
	}
}

func TestCompareWithItself(t *testing.T) {
	text := changed(t, sample(t), sample(t))
	if !strings.Contains(text, "\n0 better, 0 worse, ") || !strings.Contains(text, Rule) || !strings.Contains(text, ", 0 with too few rounds, 0 not comparable\n") {
		t.Error(text)
	}
	if strings.Contains(text, " was ") && strings.Contains(text, "another configuration") {
		t.Errorf("differences of a run to itself:\n%s", text)
	}
}

func TestCompare(t *testing.T) {
	was, is := sample(t), sample(t)
	faster, slower, other := find(is, "nats/core"), find(is, "mqtt/qos1/rate=1000"), find(is, "jetstream/file/async")
	faster.Summary.PublishRate = compare.Spread{Median: 5e6, Low: 4.9e6, High: 5.1e6, N: 3}
	slower.Summary.EndToEndP99 = compare.Spread{Median: 9e9, Low: 9e9, High: 9e9, N: 3}
	other.Durability.Text = "written, not synced (sync_interval 10s)"
	find(is, "mqtt/qos0").Summary.Lost = 5
	find(is, "pipeline").ID = "pipeline/size=16"
	is.Servers[0].Version, is.Machine.Kernel = "9.9", "Linux 9"
	is.Run = "other"
	for i := range is.Servers {
		s := &is.Servers[i]
		s.Config = strings.NewReplacer(was.Run, "other", strings.ToUpper(was.Run), "OTHER", "127.0.0.1:3", "127.0.0.1:4").Replace(s.Config)
	}
	is.Servers[0].Config += "max_inflight_messages 7\n"
	text := changed(t, was, is)
	for begins, want := range map[string]string{
		"nats/core ":            "+870.3 % better",
		"mqtt/qos1/rate=1000 ":  "+0.0 % within the noise", // its median
		"mqtt/qos0 ":            "within the noise",
		"jetstream/file/async:": `durability was "written, not synced (sync_interval 2m)", is "written, not synced (sync_interval 10s)"`,
	} {
		if got := strings.Join(row(t, text, begins), " "); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s, want …%s", begins, got, want)
		}
	}
	for _, want := range []string{"+89147.2 %             worse", "\npipeline/size=16 is new\n", "\npipeline is gone\n", "mqtt was mosquitto 2.0.11, is mosquitto 9.9", "kernel was", "mqtt: another configuration"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Count(text, "another configuration") != 1 {
		t.Errorf("another port is another configuration:\n%s", text)
	}
	if !strings.Contains(text, "\n1 better, 2 worse, ") {
		t.Error(text)
	}
}
