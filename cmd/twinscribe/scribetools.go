package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"twinscribe/thrift"
	"twinscribe/thrift/client"
)

// Exit statuses of the original's tools.
const (
	scribeCatRefused = 84
	scribeCtrlAlive  = 2
	scribeCtrlOther  = 3 // another status, and every failure
	scribeCtrlRoot   = 4
)

// scribeTimeout bounds one question of the original's tools.
const scribeTimeout = 15 * time.Second

const scribePort = "1463"

// withPort is HOST or HOST:PORT as HOST:PORT.
func withPort(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), scribePort)
}

// longHelp keeps -h free for what the original uses it for.
func longHelp(c *cobra.Command) { c.Flags().Bool("help", false, "help for "+c.Name()) }

func scribeCatCommand() *cobra.Command {
	host := ""
	c := &cobra.Command{
		Use:   "scribe_cat CATEGORY",
		Short: "send standard input as one message, as the original's tool does",
		Long: `scribe_cat sends all of standard input as one message, in one call. The exit status is 0 if the
answer is OK, and 84 if it is TRY_LATER, which is then on standard error too. It is also what the
binary does under the name scribe_cat. 'twinscribe cat' sends a line a message, and again until it
is taken.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := io.ReadAll(c.InOrStdin())
			if err != nil {
				return fmt.Errorf("standard input: %w", err)
			}
			cl, err := client.New(client.Options{Addrs: []string{withPort(host)}, NoBatchIDs: true, MaxFrame: 256 << 20})
			if err != nil {
				return usage("%v", err)
			}
			defer cl.Close()
			ctx, cancel := context.WithTimeout(c.Context(), scribeTimeout)
			defer cancel()
			answer, err := cl.Call(ctx, []thrift.Entry{{Category: []byte(args[0]), Message: b}})
			if err != nil {
				return err
			}
			if answer != thrift.OK {
				fmt.Fprintln(c.ErrOrStderr(), "TRY_LATER")
				return exit{code: scribeCatRefused}
			}
			return nil
		},
	}
	longHelp(c)
	c.Flags().StringVarP(&host, "host", "h", "127.0.0.1", "`HOST` or HOST:PORT of the server")
	return c
}

// scribeQuestions are what scribe_ctrl asks.
var scribeQuestions = map[string]func(context.Context, *client.Client, io.Writer) error{
	"status": func(ctx context.Context, cl *client.Client, out io.Writer) error {
		status, details, err := cl.Status(ctx)
		if err != nil {
			return err
		}
		text := status.String()
		if details != "" {
			text += " - " + details
		}
		fmt.Fprintln(out, text)
		if status == thrift.Alive {
			return exit{code: scribeCtrlAlive}
		}
		return exit{code: scribeCtrlOther}
	},
	"counters": func(ctx context.Context, cl *client.Client, out io.Writer) error {
		counters, err := cl.Counters(ctx)
		var names []string
		for n := range counters {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			fmt.Fprintf(out, "%s: %d\n", n, counters[n])
		}
		return err
	},
	"version": func(ctx context.Context, cl *client.Client, out io.Writer) error {
		return printed(out)(cl.Version(ctx))
	},
	"name": func(ctx context.Context, cl *client.Client, out io.Writer) error { return printed(out)(cl.Name(ctx)) },
	"alive": func(ctx context.Context, cl *client.Client, out io.Writer) error {
		since, err := cl.AliveSince(ctx)
		return printed(out)(fmt.Sprint(since), err)
	},
	"stop":   func(ctx context.Context, cl *client.Client, _ io.Writer) error { return cl.Shutdown(ctx) },
	"reload": func(ctx context.Context, cl *client.Client, _ io.Writer) error { return cl.Reinitialize(ctx) },
}

func printed(out io.Writer) func(string, error) error {
	return func(s string, err error) error {
		if err == nil {
			fmt.Fprintln(out, s)
		}
		return err
	}
}

func scribeCtrlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "scribe_ctrl COMMAND [PORT]",
		Short: "ask or stop the server on this machine, as the original's tool does",
		Long: `scribe_ctrl talks to the server on this machine over the Scribe port, 1463 if none is given:

  status    its status; the exit status is 2 for ALIVE and 3 for all others
  counters  version  name  alive
  stop, reload   as root only, exit status 4 otherwise

A failure has exit status 3. It is also what the binary does under the name scribe_ctrl.
'twinscribe ctl' tells more.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return usage("usage: scribe_ctrl COMMAND [PORT]")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			ask := scribeQuestions[args[0]]
			if ask == nil {
				return usage("%q is no command of scribe_ctrl: want status, counters, version, name, alive, stop or reload", args[0])
			}
			if (args[0] == "stop" || args[0] == "reload") && os.Geteuid() != 0 {
				return exit{scribeCtrlRoot, fmt.Errorf("%s: want root", args[0])}
			}
			port := scribePort
			if len(args) == 2 {
				port = args[1]
			}
			cl, err := client.New(client.Options{Addrs: []string{net.JoinHostPort("localhost", port)}})
			if err != nil {
				return exit{scribeCtrlOther, err}
			}
			defer cl.Close()
			ctx, cancel := context.WithTimeout(c.Context(), scribeTimeout)
			defer cancel()
			err = ask(ctx, cl, c.OutOrStdout())
			if _, told := err.(exit); err != nil && !told { //nolint:errorlint // it is made above
				return exit{scribeCtrlOther, err}
			}
			return err
		},
	}
}
