package simulate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/config"
)

func TestScenario(t *testing.T) {
	s, err := Parse("s.yaml", []byte(`# a comment
seed: 3
start: 2026-01-02T15:04:05Z
duration: 1m
count: 9
prefix: a/b
groups:
  - {profile: "zigbee2mqtt, tasmota", devices: 4, rate: 2.5, jitter: 1, burst: 7, prefix: c, after: 3s, first: 2}
  - profile: wearable
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Scenario{Seed: 3, Start: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC), Duration: time.Minute, Count: 9, Prefix: "a/b", Groups: []Group{
		{Profile: "zigbee2mqtt, tasmota", Devices: 4, First: 2, Rate: 2.5, Jitter: 1, Burst: 7, Prefix: "c", After: 3 * time.Second},
		{Profile: "wearable", Devices: 10, Rate: 10, Jitter: 0.1},
	}}
	if fmt.Sprintf("%+v", s) != fmt.Sprintf("%+v", want) {
		t.Errorf("%+v\nwant\n%+v", s, want)
	}
}

func TestScenarioProblems(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   `1:1: the file must hold one YAML document with groups`,
		"seed: 1":                            `1:1: groups is missing in the scenario`,
		"groups: []":                         `1:9: groups must be a list of at least one group`,
		"groups: x":                          `1:9: groups must be a list of at least one group`,
		"- a":                                `1:1: the scenario must be a mapping of keys to values`,
		"groups: [a]":                        `1:10: a group must be a mapping of keys to values`,
		"groups:\n  - profil: x":             `2:5: unknown key "profil" in a group, which knows profile, devices,`,
		"groups:\n  - profile: x":            `2:14: profile "x" is not known, there are zigbee2mqtt,`,
		"groups:\n  - devices: many":         `2:14: devices must be a whole number, not "many"`,
		"groups:\n  - devices: 0":            `2:14: devices must be from 1 to 1000000, not 0`,
		"groups:\n  - devices: 1.5":          `2:14: devices must be a whole number, not "1.5"`,
		"groups:\n  - devices: [1]":          `2:14: devices must be a whole number`,
		"groups:\n  - rate: -1":              `2:11: rate must be from 0 to 1e+08, not -1`,
		"groups:\n  - rate: .nan":            `2:11: rate must be from 0 to 1e+08, not NaN`,
		"groups:\n  - jitter: 2":             `2:13: jitter must be from 0 to 1, not 2`,
		"groups:\n  - after: -1s":            `2:12: after must not be negative, it is -1s`,
		"groups:\n  - after: 5":              `2:12: after must be a duration such as 500ms or 30s, not "5"`,
		"groups:\n  - prefix: a/#":           `2:13: `,
		"groups:\n  - prefix: /a":            `2:13: prefix "/a" must not begin or end with /`,
		"groups:\n  - profile:":              `2:14: profile has no value`,
		"seed: -1\ngroups: [{}]":             `1:7: seed must be a whole number from 0, not "-1"`,
		"start: noon\ngroups: [{}]":          `1:8: start must be a time as 2026-01-02T15:04:05Z, not "noon"`,
		"sed: 1\ngroups: [{}]":               `1:1: unknown key "sed" in the scenario, which knows seed,`,
		"seed: 1\nseed: 2\ngroups: [{}]":     `2:1: mapping key "seed" already defined`,
		"groups: [{}":                        `1:9: `,
		"groups: [{}]\n---\ngroups: [{}]":    `1:1: the file must hold one`,
		"groups: [{rate: x, jitter: 3}]\n":   `1:17: rate must be a number, not "x"` + "\ns.yaml:1:28: jitter must be from 0 to 1, not 3",
		"groups: [{<<: {rate: 1}}]":          `1:11: unknown key "<<"`,
		"groups: [{rate: 1, rate: 2}]":       `1:20: mapping key "rate" already defined`,
		"duration: 1m\ngroups: [{rate: *r}]": `1:1: `,
	} {
		_, err := Parse("s.yaml", []byte(text))
		var problems config.Problems
		if !errors.As(err, &problems) || !strings.HasPrefix(err.Error(), "s.yaml:"+strings.Split(want, ": ")[0]) && !strings.HasPrefix(want, "1:1: ") || !strings.Contains(err.Error(), want[strings.Index(want, ": "):]) {
			t.Errorf("%q:\n%v\nwant s.yaml:%s", text, err, want)
		}
	}
}

func TestScenarioThatIsNotThere(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "read scenario: ") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("seed: 1\ngroups: [{profile: all, rate: 1e3}]"))
	f.Add([]byte("groups: &a [*a]"))
	f.Add([]byte("groups:\n- ? a\n  : !!int b"))
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := Parse("x", src)
		var problems config.Problems
		if err != nil {
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		for i := range s.Groups {
			if err := s.Groups[i].Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
