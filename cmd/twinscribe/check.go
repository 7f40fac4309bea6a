package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"twinscribe/conf"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "read and validate configurations, print the resolved chains",
		Long: `check reads configurations as serve does, without touching a cluster or the state folder, and
prints what they come to. All mistakes of a file are told in one run, on standard error; the exit
status is then 1.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			bad := false
			for _, f := range files {
				cfg, warnings, err := conf.Load(f)
				for _, w := range warnings {
					fmt.Fprintln(c.ErrOrStderr(), w)
				}
				if err != nil {
					fmt.Fprintln(c.ErrOrStderr(), err)
					bad = true
					continue
				}
				printConfig(c.OutOrStdout(), f, cfg)
			}
			if bad {
				return exit{code: exitFailed}
			}
			return nil
		},
	}
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
		fmt.Fprintf(w, "  category %s: %s (ack %s)\n", c.Match, chainText(c.Store), ack)
	}
	fmt.Fprintf(w, "  categories that no rule matches: %s\n", cfg.Unrouted)
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
	default:
		return s.Kind()
	}
}
