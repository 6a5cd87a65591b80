// Command mqttetl keeps MQTT messages: from brokers into an append log that is
// on disk before the broker gets its acknowledgement, and from there into
// SQLite and NATS JetStream.
//
// Its invariant: a part fails by returning an error; here, and nowhere else, errors
// become exit codes. Package internal/pipeline puts the parts together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	signal.Ignore(syscall.SIGXFSZ) // a limit of the size of files is a full disk
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal does what signals do: it kills
	os.Exit(exec(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// streams are what a command reads and writes. Data goes to out, all else to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// exec runs one command line until it is done or ctx ends, and returns the
// exit code.
func exec(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	started := false
	stderr = edge{stderr}
	root := newRoot(streams{stdin, stdout, stderr})
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		err := cmd.ValidateRequiredFlags() // which cobra does only after this
		started = err == nil
		return err
	}
	root.SetArgs(args)
	var noHelp error
	refuseHelp(root, func(err error) { noHelp = err })
	cmd, err := root.ExecuteContextC(ctx)
	if _, ok := errors.AsType[*pflag.NotExistError](err); ok && cmd == root && args[0] != "" && args[0][0] != '-' {
		err = needCommand(root, args) // the flags are those of a command that is missing
	}
	if err == nil {
		err = noHelp
	}
	if err != nil && !started {
		err = usageError{err, cmd}
	}
	if err != nil {
		complain(stderr, err)
	}
	return exitCode(err)
}

func newRoot(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "mqttetl COMMAND",
		Short: "Keep MQTT messages: on disk before PUBACK, then in SQLite and NATS JetStream",
		Long: `mqttetl subscribes to MQTT brokers, or lets devices connect, and acknowledges a
message when it is on disk.
From its log it fills an SQLite archive and a NATS JetStream stream.

Every command exits with 2 if its command line is wrong. The help of a command lists
its other exit codes.`,
		Example: `  mqttetl demo --duration 10s
  mqttetl config example > mqttetl.yaml
  mqttetl run -c mqttetl.yaml`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		Args:                       cobra.ArbitraryArgs, // so that needCommand sees what is not a command
		SuggestionsMinimumDistance: 2,
	}
	versionFlag(root, std.out)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand(root))
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newRun(std), newDemo(std), newStatus(std), newVerify(std), newVerifyRead(std),
		newConfig(std), newTransform(std), newWorker(std), newDeadLetters(std), newVersion(std), newExport(std), newReplay(std), newImport(std), newQuery(std), newTail(std),
		newBench(std), newSimulate(std), newPub(std), newSub(std), newTest(std), newDoctor(std),
	)
	return root
}

// versionFlag has root print the version, or else want a command. A template of cobra's
// would keep every method of every type in the program: 5 MB.
func versionFlag(root *cobra.Command, out io.Writer) {
	version := root.Flags().BoolP("version", "v", false, "version for mqttetl")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if !*version {
			return needCommand(cmd, args)
		}
		_, err := fmt.Fprintf(out, "mqttetl %s\n", buildVersion().Version)
		return err
	}
}

// configFlag adds -c, --config.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", defaultConfigPath, "configuration file")
}
