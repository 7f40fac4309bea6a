package main

import (
	"bufio"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"twinscribe/store/reader"
)

func lsCommand() *cobra.Command {
	var f queryFlags
	asJSON, check := false, false
	c := &cobra.Command{
		Use:   "ls",
		Short: "files and segments: where they are, sealed, open or torn, messages, bytes",
		Long: `ls lists what there is of a category, or of all. With --check it reads every byte and compares
manifests, inventories and contents; problems are said on standard error.

The exit status is 3 if something could not be counted, and with --check 1 if there is a problem.
Of local files under Scribe's names, and of what goes to other servers, it says what read does.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q, err := f.query()
			if err != nil {
				return err
			}
			v, err := f.open(c, true)
			if err != nil {
				return err
			}
			defer v.Close()
			if check {
				return f.status(checkFiles(c, v.Reader, q))
			}
			out := bufio.NewWriter(c.OutOrStdout())
			report, err := v.Reader.List(c.Context(), q, func(i *reader.Item) error { return printItem(out, i, asJSON) })
			if e := out.Flush(); err == nil {
				err = e
			}
			return f.status(tell(c, report, err))
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "an object a line")
	c.Flags().BoolVar(&check, "check", false, "compare manifests, inventories and contents")
	c.MarkFlagsMutuallyExclusive("json", "check")
	return c
}

func printItem(w *bufio.Writer, i *reader.Item, asJSON bool) error {
	if asJSON {
		b, err := json.Marshal(i)
		if err != nil {
			return err
		}
		_, err = w.Write(append(b, '\n'))
		return err
	}
	messages := "?"
	if i.Messages >= 0 {
		messages = fmt.Sprint(i.Messages)
	}
	state := i.State
	if i.Missing != "" {
		state = "missing"
	}
	_, err := fmt.Fprintf(w, "%-7s %-8s %10s messages %12d bytes  %q %s %s\n", i.Place, state, messages, i.Bytes, i.Category, i.Partition, i.Path)
	return err
}

func checkFiles(c *cobra.Command, r *reader.Reader, q reader.Query) error {
	report, err := r.Check(c.Context(), q)
	fmt.Fprintf(c.OutOrStdout(), "%d messages, %d bytes are as their manifests say; problems %d, not counted %d\n",
		report.Messages, report.Bytes, len(report.Problems), len(report.Uncounted))
	status := tell(c, report, err)
	if err == nil && len(report.Problems) > 0 {
		return exit{code: exitFailed}
	}
	return status
}
