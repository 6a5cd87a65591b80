package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/replay"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// settings is all that decides what is sent where, as flags with their values in
// JSON. The resume file has it.
func (f *replayFlags) settings() string {
	text, _ := json.Marshal([]setting{ // of strings, which cannot fail
		{"to", secret.URL(f.to)}, {"stream", f.stream}, {"subject-prefix", f.subjectPrefix}, {"qos", fmt.Sprint(f.qos)},
		{"no-retain", fmt.Sprint(f.noRetain)}, {"new-ids", fmt.Sprint(f.newIDs)}, {"since", f.since}, {"until", f.until}, {"seq", f.seq},
		{"topic", fmt.Sprintf("%q", f.topics)}, {"source", fmt.Sprintf("%q", f.sources)}, {"limit", fmt.Sprint(f.limit)},
		{"topic-prefix", f.topicPrefix}, {"topic-map", fmt.Sprintf("%q", f.topicMaps)},
	})
	return string(text)
}

type setting struct{ Flag, Value string }

// otherFlags is the flags that are not those of the beginning: was → is.
func otherFlags(was, is string) string {
	var before, now []setting
	if errors.Join(json.Unmarshal([]byte(was), &before), json.Unmarshal([]byte(is), &now)) != nil || len(before) != len(now) {
		return was + " → " + is // of another version
	}
	var changed []string
	for i, s := range now {
		if s != before[i] {
			changed = append(changed, fmt.Sprintf("--%s: %s → %s", s.Flag, shownSetting(before[i].Value), shownSetting(s.Value)))
		}
	}
	return strings.Join(changed, ", ")
}

// shownSetting is a value as somebody reads it who gave the flag, or did not.
func shownSetting(value string) string {
	switch value {
	case "", "[]", `""`, "-1":
		return "none"
	}
	return value
}

// resumeError says of a resume file of another replay what is other.
func resumeError(err error, cmd *cobra.Command, file string) error {
	var other *replay.OtherReplay
	switch {
	case errors.As(err, &other) && other.Was.Settings != other.Is.Settings:
		return usageError{mqttetl.WithHint(
			fmt.Errorf("--resume %s began with other flags, %s", file, otherFlags(other.Was.Settings, other.Is.Settings)),
			"give the flags of the beginning, or another file to --resume"), cmd}
	case errors.As(err, &other):
		return mqttetl.WithHint(
			fmt.Errorf("--resume %s: of a replay of log %s, not of log %s: it %w", file, other.Was.LogID, other.Is.LogID, mqttetl.ErrForeign),
			"name the archive or configuration of the beginning, or another file to --resume")
	case errors.Is(err, replay.ErrNoResume):
		return usageError{fmt.Errorf("--resume %w", err), cmd}
	}
	return err
}
