package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/replay"
)

// settings is all that decides what is sent where: name=value, as settingNames
// has them. It stands in the resume file.
func (f *replayFlags) settings() string {
	return fmt.Sprintf("to=%s stream=%s subject=%s qos=%d no-retain=%v new-ids=%v since=%s until=%s seq=%s topics=%q sources=%q limit=%d prefix=%q maps=%q",
		redacted(f.to), f.stream, f.subjectPrefix, f.qos, f.noRetain, f.newIDs, f.since, f.until, f.seq, f.topics, f.sources, f.limit, f.topicPrefix, f.topicMaps)
}

// settingNames are the names in settings, in their order, with their flags.
var settingNames = [][2]string{
	{"to", "to"}, {"stream", "stream"}, {"subject", "subject-prefix"}, {"qos", "qos"}, {"no-retain", "no-retain"}, {"new-ids", "new-ids"},
	{"since", "since"}, {"until", "until"}, {"seq", "seq"}, {"topics", "topic"}, {"sources", "source"}, {"limit", "limit"},
	{"prefix", "topic-prefix"}, {"maps", "topic-map"},
}

// splitSettings is the values of settings, in the order of settingNames; nil if
// it is none.
func splitSettings(s string) (values []string) {
	for i, name := range settingNames {
		rest, ok := strings.CutPrefix(s, name[0]+"=")
		if !ok {
			return nil
		}
		if i == len(settingNames)-1 {
			return append(values, rest)
		}
		next := " " + settingNames[i+1][0] + "="
		at := strings.Index(rest, next)
		if at < 0 {
			return nil
		}
		values, s = append(values, rest[:at]), rest[at+1:]
	}
	return nil
}

// otherFlags is the flags that are not those of the beginning: was → is.
func otherFlags(was, is string) string {
	before, now := splitSettings(was), splitSettings(is)
	if before == nil || now == nil {
		return was + " → " + is
	}
	var changed []string
	for i, name := range settingNames {
		if before[i] != now[i] {
			changed = append(changed, fmt.Sprintf("--%s: %s → %s", name[1], shownSetting(before[i]), shownSetting(now[i])))
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
