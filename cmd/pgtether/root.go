package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes that scripts rest on.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// exitError gives an error the exit code that it ends the command with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError marks a mistake in the arguments or in the configuration: exit code 2.
func usageError(err error) error { return &exitError{exitUsage, err} }

// unreachableError marks that nobody who is a pgtether answered: exit code 3.
func unreachableError(err error) error { return &exitError{exitUnreachable, err} }

// run executes one command line and returns the exit code of the process.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRootCommand(stdout, stderr)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitDone
	}
	var exit *exitError
	if !errors.As(err, &exit) { // an error that no command returned is cobra's: it could not make sense of the arguments
		exit = &exitError{exitUsage, fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	}
	for line := range strings.Lines(exit.Error()) {
		fmt.Fprintf(stderr, "pgtether: %s\n", plain(strings.TrimSuffix(line, "\n")))
	}
	return exit.code
}

// newRootCommand builds the whole command line. Nothing is kept between two of them.
func newRootCommand(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "pgtether",
		Short: "keep every connection tied to the one PostgreSQL writer, through failover",
		Long: `pgtether keeps every connection of an application tied to the one PostgreSQL writer, through failover.

Commands that ask a running proxy find it by --admin URL or --config FILE, else by PGTETHER_ADMIN or PGTETHER_CONFIG, else at
` + defaultAdmin + `. PGTETHER_TOKEN holds the admin token.

Exit codes: 0 done, 1 refused or failed, 2 usage or invalid configuration, 3 cannot reach the proxy.`,
		Version:            buildVersion(),
		Args:               cobra.ArbitraryArgs,
		SilenceUsage:       true,
		SilenceErrors:      true,
		DisableSuggestions: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(fmt.Errorf("unknown command %q (see pgtether --help)", args[0]))
			}
			return usageError(errors.New("a command is missing (see pgtether --help)"))
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.AddCommand(
		newServeCommand(),
		newCheckCommand(),
		newStatusCommand(),
		newDecisionCommand(),
		newEventsCommand(),
		newSessionsCommand(),
		newSwitchoverCommand(),
		newApproveCommand(),
		newResolveCommand(),
		newAbortCommand(),
		newHoldCommand(),
		newResumeCommand(),
		newLabCommand(),
		newVersionCommand(),
	)
	root.SetHelpCommand(newHelpCommand(root))
	failByDefault(root)
	return root
}

// newHelpCommand takes the place of cobra's, for which help on a command that does not exist is no mistake.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "explain a command",
		RunE: func(_ *cobra.Command, args []string) error {
			target, rest, err := root.Find(args)
			if err != nil || target == root && len(rest) > 0 {
				return usageError(fmt.Errorf("unknown command %q (see pgtether --help)", strings.Join(args, " ")))
			}
			return target.Help()
		},
	}
}

// failByDefault gives every error that a command returns without an exit code of its own the code 1, so that it can be told from
// those that cobra returns before a command runs.
func failByDefault(cmd *cobra.Command) {
	if inner := cmd.RunE; inner != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			err := inner(cmd, args)
			var exit *exitError
			if err != nil && !errors.As(err, &exit) {
				return &exitError{exitFailed, err}
			}
			return err
		}
	}
	for _, child := range cmd.Commands() {
		failByDefault(child)
	}
}
