package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
)

// needCommand is what a command does that only holds others.
func needCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{fmt.Errorf("which command? %s --help lists them", cmd.CommandPath()), cmd}
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w, did you mean %q?", err, near[0])
	}
	return usageError{err, cmd}
}

// noArgs refuses arguments. Where one may be the configuration, it
// says how that is given.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.Flags().Lookup("config") != nil {
		return fmt.Errorf("%s takes no arguments, not %q; -c FILE names the configuration", cmd.Name(), args[0])
	}
	return fmt.Errorf("%s takes no arguments, not %q", cmd.Name(), args[0])
}

// oneFile wants the name of a file, as an argument or as -c.
func oneFile(cmd *cobra.Command, args []string) error {
	files := len(args)
	if cmd.Flags().Changed("config") {
		files++
	}
	switch files {
	case 0:
		return errors.New("which file?")
	case 1:
		return nil
	}
	return fmt.Errorf("%s takes one file, not %d", cmd.Name(), files)
}

// fileFlag adds -c to a command with oneFile. The file is what theFile says.
func fileFlag(cmd *cobra.Command) {
	cmd.Flags().StringP("config", "c", "", "configuration file, in place of FILE")
}

func theFile(cmd *cobra.Command, args []string) string {
	return cmp.Or(append(args, cmd.Flags().Lookup("config").Value.String())...)
}

// what a value of each type of flag looks like, in the words of a user.
var flagWants = map[string]string{
	"int": "a whole number", "uint": "a whole number from 0", "uint16": "a whole number from 0 to 65535", "uint64": "a whole number from 0",
	"uint8":   "0, 1 or 2", // QoS
	"float64": "a number", "duration": "a duration such as 500ms or 30s", "bool": "true or false",
}

// flagError tells what a flag's value must be, where the library tells what
// its parser did not like.
func flagError(cmd *cobra.Command, err error) error {
	if absent, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return unknownFlag(cmd, absent)
	}
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	f := invalid.GetFlag()
	if errors.Is(invalid.Unwrap(), strconv.ErrRange) && f.Value.Type() != "uint8" {
		return fmt.Errorf("--%s %s is out of range", f.Name, invalid.GetValue())
	}
	if want, ok := flagWants[f.Value.Type()]; ok {
		return fmt.Errorf("--%s must be %s, not %q", f.Name, want, invalid.GetValue())
	}
	return fmt.Errorf("--%s %w, not %q", f.Name, invalid.Unwrap(), invalid.GetValue())
}

// unknownFlag names the flag that is closest.
func unknownFlag(cmd *cobra.Command, absent *pflag.NotExistError) error {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	name := absent.GetSpecifiedName()
	if closest := config.Closest(name, names); closest != "" && len(name) > 1 {
		return fmt.Errorf("%w, did you mean --%s?", absent, closest)
	}
	return absent
}

// helpCommand is the library's, but that of an unknown command is an error.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 && cmd.HasSubCommands() {
				return needCommand(cmd, rest)
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// refuseHelp has --help of an unknown command call refuse in place of the help
// of the command above it.
func refuseHelp(root *cobra.Command, refuse func(error)) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if rest := cmd.Flags().Args(); cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			refuse(needCommand(cmd, rest))
			return
		}
		help(cmd, args)
	})
}

// leftOut is the error of what the small build lacks.
func leftOut(what string) error {
	return mqttetl.WithHint(fmt.Errorf("this is the small build of mqttetl, without %s", what), "install the whole one, which `make build` makes")
}
