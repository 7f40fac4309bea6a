package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"twinscribe/conf"
)

func checkCommand() *cobra.Command {
	to, port := "", 0
	c := &cobra.Command{
		Use:   "check FILE...",
		Short: "read and validate configurations, print the resolved chains",
		Long: `check reads configurations as serve does, without touching a cluster, and prints what they come
to. All mistakes of a file are told in one run, on standard error; the exit status is then 1. It
changes nothing, and looks on the disk only for the state folder of a Scribe configuration that
names none.

Of a configuration in Scribe's own grammar, FILE.conf, it tells key by key what becomes of it. With
--to yaml it prints the same configuration in our grammar instead.`,
		Example: "  twinscribe check /etc/twinscribe.yaml\n  twinscribe check --to yaml scribe.conf > twinscribe.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			if to != "" && to != "yaml" {
				return usage("--to %q: want yaml", to)
			}
			if port < 0 || port > 65535 {
				return usage("-p %d: want a port, 1 to 65535", port)
			}
			bad := false
			for _, f := range files {
				if err := checkFile(c, f, to, port); err != nil {
					fmt.Fprintln(c.ErrOrStderr(), err)
					bad = true
				}
			}
			if bad {
				return exit{code: exitFailed}
			}
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "print a Scribe configuration as `FORMAT`: yaml")
	c.Flags().IntVarP(&port, "port", "p", 0, "`PORT` that scribed is given, where a Scribe configuration names none")
	return c
}

// checkFile tells what one file comes to.
func checkFile(c *cobra.Command, file, to string, port int) error {
	var m *conf.Migration
	var cfg *conf.Config
	var warnings []string
	var err error
	if conf.IsScribe(file) {
		if m, warnings, err = conf.LoadScribe(file, conf.ScribeOptions{Port: port, State: stateFolder}); err == nil {
			cfg = m.Config
		}
	} else if to != "" {
		return fmt.Errorf("%s: --to translates files in Scribe's grammar, which end in .conf", file)
	} else {
		cfg, warnings, err = conf.Load(file)
	}
	for _, w := range warnings {
		fmt.Fprintln(c.ErrOrStderr(), w)
	}
	switch {
	case err != nil:
		return err
	case to == "yaml":
		_, err := c.OutOrStdout().Write(m.YAML)
		return err
	}
	printConfig(c.OutOrStdout(), file, cfg)
	if m != nil {
		printNotes(c.OutOrStdout(), m.Notes)
	}
	return nil
}

// printNotes tells what becomes of each key of a Scribe configuration.
func printNotes(w io.Writer, notes []conf.Note) {
	fmt.Fprintln(w, "  what becomes of each key:")
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, n := range notes {
		where := n.Key
		if n.Section != "" {
			where = n.Section + " " + n.Key
		}
		fmt.Fprintf(t, "  %d\t%s\t%s\t%s\n", n.Line, where, n.Verdict, n.Text)
	}
	t.Flush() //nolint:errcheck // as the lines above
}

func printConfig(w io.Writer, file string, cfg *conf.Config) {
	fmt.Fprintf(w, "%s: valid\n  ack %s, Thrift on %s, HTTP on %s, state in %s\n", file, cfg.Ack, cfg.Listen.Thrift, cfg.Listen.HTTP, cfg.State)
	for _, c := range cfg.Clusters {
		switch {
		case c.HDFS != nil:
			fmt.Fprintf(w, "  cluster %s: hdfs %s, root %s, user %s\n", c.Name, strings.Join(c.HDFS.NameNodes, ","), c.HDFS.Root, c.HDFS.User)
		case c.Dir != nil:
			fmt.Fprintf(w, "  cluster %s: directory %s\n", c.Name, c.Dir.Path)
		}
	}
	for _, c := range cfg.Category {
		ack := c.Ack
		if ack == "" {
			ack = cfg.Ack
		}
		fmt.Fprintf(w, "  category %s: %s (ack %s)\n", c.Match, ruleText(c), ack)
	}
	fmt.Fprintf(w, "  categories that no rule matches: %s\n", cfg.Unrouted)
}

// ruleText is what becomes of a rule's messages, as one line.
func ruleText(c conf.Category) string {
	each := c.Each()
	parts := make([]string, len(each))
	for i, s := range each {
		parts[i] = chainText(s)
	}
	return strings.Join(parts, " and ")
}

// chainText is a chain as one line: n1 ▸ n2 ▸ buffer.
func chainText(s conf.Store) string {
	switch {
	case s.Failover != nil:
		parts := make([]string, 0, len(s.Failover.Places))
		for _, p := range s.Failover.Places {
			parts = append(parts, chainText(p))
		}
		return strings.Join(parts, " ▸ ")
	case s.Files != nil:
		return s.Files.Cluster
	case s.ScribeFiles != nil:
		return "files in " + s.ScribeFiles.FilePath
	case s.Network != nil:
		return "network " + strings.Join(s.Network.Servers, ",")
	case s.Bucket != nil:
		return fmt.Sprintf("%d buckets by %s, the first %s", len(s.Bucket.Stores)-1, s.Bucket.By, chainText(s.Bucket.Stores[min(1, len(s.Bucket.Stores)-1)]))
	default:
		return s.Kind()
	}
}
