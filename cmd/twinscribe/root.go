package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// Exit statuses, the same for every command.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitUncounted = 3 // did it, but something could not be counted
)

// exit is an error that carries its exit status. A nil cause has been told already.
type exit struct {
	code  int
	cause error
}

func (e exit) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.cause.Error()
}

func (e exit) Unwrap() error { return e.cause }

func usage(format string, args ...any) error { return exit{exitUsage, fmt.Errorf(format, args...)} }

// run is the program without its surroundings: what a test calls.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "twinscribe",
		Short: "Log aggregator for fleets of web servers: Scribe's Thrift in, two HDFS clusters out",
		Long: `twinscribe takes log messages over Scribe's Thrift interface and writes them to an HDFS
cluster, to a second one when the first fails or is being upgraded, and to checksummed local
segments when both are away. 'twinscribe read' gives all of it back as one data set, each
acknowledged message once.

Without a configuration, 'twinscribe serve' uses two local directories as clusters.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetVersionTemplate("twinscribe {{.Version}}\n")
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%s: %v (see '%s --help')", c.CommandPath(), err, c.CommandPath())
	})
	root.AddCommand(commands()...)
	for _, c := range root.Commands() {
		withUsageStatus(c)
	}
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var e exit
	if !errors.As(err, &e) {
		e = exit{exitFailed, err}
		if c == root { // cobra's own complaint: no such command
			e.code = exitUsage
		}
	}
	if e.cause != nil {
		fmt.Fprintf(stderr, "twinscribe: %v\n", e.cause)
	}
	return e.code
}

// withUsageStatus makes a wrong number of arguments end with exitUsage.
func withUsageStatus(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage("%s: %v (see '%s --help')", c.CommandPath(), err, c.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		withUsageStatus(sub)
	}
}
