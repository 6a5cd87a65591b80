package mosquitto

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

// separator is between the words of one -D.
const separator = "\x00"

// Parse reads the file of defaults and then the command line.
func (o *Options) Parse(args []string) error {
	if len(args) == 1 && args[0] == "-h" {
		o.Help = true
		return nil
	}
	defaults, err := o.defaults()
	if err != nil {
		return err
	}
	if err := o.take(defaults); err != nil {
		return fmt.Errorf("%s: %w", defaultsPath(), err)
	}
	flags := o.cmd.Flags()
	for _, name := range []string{"host", "port"} {
		flags.Lookup(name).Changed = false // a default gives way to -L
	}
	if err := o.take(args); err != nil {
		return err
	}
	switch {
	case o.Help, o.Ask:
		return nil
	case flags.NArg() == 1 && o.HostArgument && !o.Changed("host") && o.url == "":
		o.host = flags.Arg(0)
	case flags.NArg() > 0 && o.HostArgument:
		return fmt.Errorf("unexpected argument %q; name one host, with -h or without", flags.Arg(flags.NArg()-1))
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; -t names a topic", flags.Arg(0))
	}
	return o.check()
}

// take sets the options.
func (o *Options) take(args []string) error {
	joined, err := o.join(args)
	if err != nil {
		return err
	}
	err = o.cmd.Flags().Parse(joined)
	if err == nil {
		return nil
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok && invalid.GetFlag().Name == "property" {
		return fmt.Errorf("-D %s: %w", strings.ReplaceAll(invalid.GetValue(), separator, " "), invalid.Unwrap())
	}
	return o.explain(o.cmd, err)
}

// join makes one argument of the several that follow each -D. An argument that
// is the value of another option is left alone.
func (o *Options) join(args []string) (joined []string, err error) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return append(joined, args[i:]...), nil
		}
		if a == "-o" || a == "--config-file" {
			if i++; i == len(args) {
				return nil, fmt.Errorf("flag needs an argument: %s", a)
			}
			more, err := o.optionsIn(args[i])
			if err == nil {
				more, err = o.join(more)
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
			if o.takesNext(a) && i+1 < len(args) {
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
func (o *Options) takesNext(a string) bool {
	flags := o.cmd.Flags()
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
func (o *Options) defaults() (args []string, err error) {
	path := defaultsPath()
	if path == "" {
		return nil, nil
	}
	args, err = o.optionsIn(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return args, err
}

// optionsIn reads a file of options: one a line, with its value after a blank; a
// line that begins with # is a comment. An option of another tool is left out.
func (o *Options) optionsIn(path string) (args []string, err error) {
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
		f := Lookup(o.cmd, option)
		switch {
		case f == nil && knownElsewhere(o.cmd, option):
			continue
		case f == nil:
			return nil, fmt.Errorf("%s:%d: unknown option %s", path, n, option)
		case f.Name == "config-file":
			return nil, fmt.Errorf("%s:%d: %s is not possible in a file", path, n, option)
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

// Lookup finds the option that is written so, nil if there is none.
func Lookup(cmd *cobra.Command, option string) *pflag.Flag {
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
		return c.DisableFlagParsing && Lookup(c, option) != nil
	})
}
