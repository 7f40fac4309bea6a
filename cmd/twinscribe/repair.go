package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"twinscribe/daemon"
	"twinscribe/store/repair"
)

func repairCommand() *cobra.Command {
	var f configFlags
	var timeout time.Duration
	dryRun := false
	c := &cobra.Command{
		Use:   "repair",
		Short: "seal torn and orphaned files by hand",
		Long: `repair makes the files of earlier starts, and torn ones, equal to what they must hold, and seals
them. A running server does that by itself: then repair waits until it has nothing left to do, and
--dry-run tells what it still has. Without a server it does the work. --dry-run changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := f.loadTold(c)
			if err != nil {
				return err
			}
			t, err := daemon.OpenTools(c.Context(), cfg, zap.NewNop(), version)
			if errors.Is(err, daemon.ErrServed) {
				return repairServed(c, &api{addr: cfg.Listen.HTTP}, dryRun, timeout)
			}
			if err != nil {
				return err
			}
			err = t.Repair(c.Context(), dryRun, func(r repair.Report) {
				fmt.Fprintf(c.OutOrStdout(), "%s:%s: %v, %d messages, %d bytes, cut %d", r.Cluster, r.Path, r.Action, r.Messages, r.Bytes, r.Cut)
				if r.Err != nil {
					fmt.Fprintf(c.OutOrStdout(), ": %v", r.Err)
				}
				fmt.Fprintln(c.OutOrStdout())
			})
			return errors.Join(err, t.Close(c.Context()))
		},
	}
	f.add(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "with a running server: wait this long")
	return c
}

// repairServed watches a server at it.
func repairServed(c *cobra.Command, a *api, dryRun bool, timeout time.Duration) error {
	const every = 500 * time.Millisecond
	end, told := time.Now().Add(timeout), ""
	for {
		var st daemon.Status
		if err := a.call(c.Context(), http.MethodGet, "/v1/status", nil, &st); err != nil {
			return fmt.Errorf("a server holds the state folder: %w", err)
		}
		left, text := 0, ""
		for _, cl := range st.Clusters {
			if cl.RepairBacklog > 0 {
				left += cl.RepairBacklog
				text += fmt.Sprintf(", %d on %s (%s)", cl.RepairBacklog, cl.Name, cl.State)
			}
		}
		if left == 0 {
			fmt.Fprintln(c.OutOrStdout(), "the server has nothing to repair")
			return nil
		}
		text = "the server has files to repair: " + text[2:]
		if dryRun {
			fmt.Fprintln(c.OutOrStdout(), text)
			return nil
		}
		if text != told {
			told = text
			fmt.Fprintln(c.ErrOrStderr(), text)
		}
		if time.Now().After(end) {
			return fmt.Errorf("not done after %v: %s", timeout, text)
		}
		select {
		case <-c.Context().Done():
			return c.Context().Err()
		case <-time.After(every):
		}
	}
}
