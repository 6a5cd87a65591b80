package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// separator stands between the words of one -D.
const separator = "\x00"

// parse reads the file of defaults and then the command line.
func (t *tool) parse(args []string) error {
	if len(args) == 1 && args[0] == "-h" {
		t.help = true
		return nil
	}
	defaults, err := t.defaults()
	if err != nil {
		return err
	}
	if err := t.take(defaults); err != nil {
		return fmt.Errorf("%s: %w", defaultsPath(), err)
	}
	flags := t.cmd.Flags()
	for _, name := range []string{"host", "port"} {
		flags.Lookup(name).Changed = false // a default gives way to -L
	}
	if err := t.take(args); err != nil {
		return err
	}
	switch {
	case t.help, t.ask:
		return nil
	case flags.NArg() == 1 && t.hostArgument && !t.changed("host") && t.url == "":
		t.host = flags.Arg(0)
	case flags.NArg() > 0 && t.hostArgument:
		return fmt.Errorf("unexpected argument %q; name one host, with -h or without", flags.Arg(flags.NArg()-1))
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; -t names a topic", flags.Arg(0))
	}
	return t.check()
}

// take sets the options.
func (t *tool) take(args []string) error {
	joined, err := t.join(args)
	if err != nil {
		return err
	}
	err = t.cmd.Flags().Parse(joined)
	if err == nil {
		return nil
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok && invalid.GetFlag().Name == "property" {
		return fmt.Errorf("-D %s: %w", strings.ReplaceAll(invalid.GetValue(), separator, " "), invalid.Unwrap())
	}
	return flagError(t.cmd, err)
}

// join makes one argument of the several that follow each -D. An argument that
// is the value of another option is left alone.
func (t *tool) join(args []string) (joined []string, err error) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return append(joined, args[i:]...), nil
		}
		if a == "-o" || a == "--config-file" {
			if i++; i == len(args) {
				return nil, fmt.Errorf("flag needs an argument: %s", a)
			}
			more, err := t.optionsIn(args[i])
			if err == nil {
				more, err = t.join(more)
			}
			if err != nil {
				return nil, err
			}
			joined = append(joined, more...)
			continue
		}
		if a == "--will_retain" && i+1 < len(args) && isBool(args[i+1]) { // takes a value in Lua
			i++
			joined = append(joined, a+"="+args[i])
			continue
		}
		if a != "-D" && a != "--property" {
			joined = append(joined, a)
			if t.takesNext(a) && i+1 < len(args) {
				i++
				joined = append(joined, args[i])
			}
			continue
		}
		words := args[i+1:]
		if len(words) >= 2 {
			words = words[:min(len(words), 2+wire.Values(words[1]))]
		}
		joined = append(joined, a, strings.Join(words, separator))
		i += len(words)
	}
	return joined, nil
}

func isBool(s string) bool {
	_, err := strconv.ParseBool(s)
	return err == nil
}

// takesNext says whether the argument after a is a's value.
func (t *tool) takesNext(a string) bool {
	flags := t.cmd.Flags()
	var f *pflag.Flag
	switch {
	case strings.Contains(a, "="):
		return false
	case strings.HasPrefix(a, "--"):
		f = flags.Lookup(a[2:])
	case len(a) == 2 && a[0] == '-':
		f = flags.ShorthandLookup(a[1:])
	case len(a) > 2 && a[0] == '-': // several letters; only the last may lack its value
		for i := 1; i < len(a); i++ {
			f = flags.ShorthandLookup(a[i : i+1])
			if f == nil || f.NoOptDefVal == "" {
				return f != nil && i == len(a)-1
			}
		}
	}
	return f != nil && f.NoOptDefVal == ""
}

// defaultsPath is the file with options that hold for every tool.
func defaultsPath() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "" // neither XDG_CONFIG_HOME nor HOME: there is none
	}
	return filepath.Join(dir, "mqttetl", "defaults")
}

// defaults reads the file of defaults, if there is one.
func (t *tool) defaults() (args []string, err error) {
	path := defaultsPath()
	if path == "" {
		return nil, nil
	}
	args, err = t.optionsIn(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return args, err
}

// optionsIn reads a file of options: one a line, with its value behind a blank; a
// line that begins with # is a comment. An option of another tool is left out.
func (t *tool) optionsIn(path string) (args []string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read options: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		option, value, _ := strings.Cut(line, " ")
		f := lookup(t.cmd, option)
		switch {
		case f == nil && knownElsewhere(t.cmd, option):
			continue
		case f == nil:
			return nil, fmt.Errorf("%s:%d: unknown option %s", path, n, option)
		case f.Name == "config-file":
			return nil, fmt.Errorf("%s:%d: %s cannot stand in a file", path, n, option)
		case f.Name == "property":
			args = append(append(args, option), strings.Fields(value)...)
		case f.NoOptDefVal != "" && strings.TrimSpace(value) != "":
			return nil, fmt.Errorf("%s:%d: %s takes no value", path, n, option)
		case f.NoOptDefVal != "":
			args = append(args, option)
		default:
			args = append(args, option, strings.TrimSpace(value))
		}
	}
	return args, lines.Err()
}

// lookup finds the option that is written so, nil if there is none.
func lookup(cmd *cobra.Command, option string) *pflag.Flag {
	switch {
	case strings.HasPrefix(option, "--"):
		return cmd.Flags().Lookup(option[2:])
	case len(option) == 2 && option[0] == '-':
		return cmd.Flags().ShorthandLookup(option[1:])
	}
	return nil
}

// knownElsewhere says whether another tool has the option.
func knownElsewhere(cmd *cobra.Command, option string) bool {
	return slices.ContainsFunc(cmd.Parent().Commands(), func(c *cobra.Command) bool {
		return c.DisableFlagParsing && lookup(c, option) != nil
	})
}

// mostSeconds is 31 years, beyond which a time would not be one.
const mostSeconds = 1_000_000_000

// isSeconds says whether s is a time to wait.
func isSeconds(s float64) bool { return s > 0 && s <= mostSeconds }
