package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"twinscribe/aggregator"
	"twinscribe/daemon"
)

func printStatus(w io.Writer, st *daemon.Status) {
	fmt.Fprintf(w, "%s %s.%s on %s: %s for %v, version %s\n", st.Aggregator, fmt.Sprintf("%08x", st.Epoch), st.Start, st.Host, st.State,
		time.Since(time.Unix(st.Since, 0)).Round(time.Second), st.Version)
	for _, why := range st.NotReady {
		fmt.Fprintf(w, "not ready: %s\n", why)
	}
	if len(st.Clusters) > 0 {
		fmt.Fprintln(w, "clusters:")
	}
	for i := range st.Clusters {
		printCluster(w, &st.Clusters[i])
	}
	fmt.Fprintf(w, "buffer: %d of %d bytes, not on a cluster: %s\n", st.Buffer.Bytes, st.Buffer.Limit, orNothing(listed(st.Buffer.Unshipped)))
	if st.Buffer.Damaged > 0 {
		fmt.Fprintf(w, "  %d segments are damaged: see 'twinscribe buffer verify'\n", st.Buffer.Damaged)
	}
	for i := range st.Spools {
		printSpools(w, &st.Spools[i])
	}
	for i := range st.Network {
		printNetwork(w, &st.Network[i])
	}
	if st.Journal.Failed {
		fmt.Fprintln(w, "journal: failed; writing goes on")
	}
	fmt.Fprintf(w, "messages: accepted %d, stored: %s\n", st.Totals.Accepted.Messages, orNothing(listed(messages(st.Totals.Stored))))
	if refused := listed(messages(st.Totals.Refused)); refused != "" {
		fmt.Fprintf(w, "refused: %s\n", refused)
	}
	var unrouted []string
	for _, c := range st.Categories {
		if c.Unrouted {
			unrouted = append(unrouted, fmt.Sprintf("%q", string(c.Category)))
		}
	}
	if len(unrouted) > 0 {
		fmt.Fprintf(w, "no rule matches: %s\n", strings.Join(unrouted, ", "))
	}
	for _, text := range st.Warnings {
		fmt.Fprintf(w, "warning: %s\n", text)
	}
}

func printSpools(w io.Writer, s *daemon.SpoolsStatus) {
	fmt.Fprintf(w, "spools in %s: %d of %d bytes, %d messages wait%s\n", s.Path, s.Bytes, s.Limit, s.Waiting, framedFiles(s.Files, s.FileBytes))
	for i := range s.Behind {
		c := &s.Behind[i]
		fmt.Fprintf(w, "  %q", string(c.Category))
		if c.Route > 0 {
			fmt.Fprintf(w, " store %d", c.Route+1)
		}
		if c.Part >= 0 {
			fmt.Fprintf(w, " part %d", c.Part)
		}
		fmt.Fprintf(w, ": %s for %v, %d messages wait%s", c.State, seconds(c.SinceSeconds), c.Waiting, framedFiles(c.Files, c.FileBytes))
		if c.LastError != "" {
			fmt.Fprintf(w, "; last error: %s", c.LastError)
		}
		if c.Problem != "" {
			fmt.Fprintf(w, "; problem: %s", c.Problem)
		}
		fmt.Fprintln(w)
	}
	if s.Omitted > 0 {
		fmt.Fprintf(w, "  and %d more\n", s.Omitted)
	}
}

// framedFiles tells of files of an original that wait.
func framedFiles(n int, bytes int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", and %d files of Scribe's with %d bytes", n, bytes)
}

func printNetwork(w io.Writer, n *daemon.NetworkStatus) {
	fmt.Fprintf(w, "forwarding: %s, %d chains\n", n.State, n.Chains)
	for _, s := range n.Servers {
		state := "well"
		if s.Sick {
			state = "does not answer"
		}
		fmt.Fprintf(w, "  %s %s; messages sent %d, calls %d, refused %d, failed %d\n", s.Address, state, s.Sent, s.Tries, s.TryLater, s.Failed)
	}
	if n.LastError != "" && n.State != "healthy" {
		fmt.Fprintf(w, "  last error: %s\n", n.LastError)
	}
}

func printCluster(w io.Writer, c *daemon.ClusterStatus) {
	fmt.Fprintf(w, "  %s %s", c.Name, c.State)
	if c.Drained {
		fmt.Fprint(w, ", drained")
	}
	fmt.Fprintf(w, " for %v", seconds(c.SinceSeconds))
	if c.HoldLeft > 0 {
		fmt.Fprintf(w, ", used again in %v if it stays well", seconds(c.HoldLeft))
	}
	fmt.Fprintf(w, "; files open %d, being sealed %d, awaiting repair %d; switches %d", c.OpenFiles, c.Sealing, c.RepairBacklog, c.Switches)
	if c.LastError != "" && c.State != "healthy" {
		fmt.Fprintf(w, "; last error %v ago: %s", seconds(c.LastErrorAgo), c.LastError)
	}
	fmt.Fprintln(w)
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Second)
}

func messages(m map[string]aggregator.Count) map[string]int64 {
	n := make(map[string]int64, len(m))
	for k, c := range m {
		n[k] = c.Messages
	}
	return n
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func ctlBooks(api *api) *cobra.Command {
	return &cobra.Command{
		Use:   "books",
		Short: "the books of every category, and whether they balance",
		Long: `books prints, for each category and in all, what was offered and what became of it:

  offered  = accepted + refused
  accepted = stored + dropped + withdrawn + queued + in flight

A category with several routes, or with one that is split, has a book for each.

The exit status is 1 if a book does not balance.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var st daemon.Status
			if err := api.call(c.Context(), http.MethodGet, "/v1/status", nil, &st); err != nil {
				return err
			}
			bad := false
			for i := range st.Categories {
				b := &st.Categories[i].Book
				name := fmt.Sprintf("%q", string(b.Category))
				if b.Lane != nil {
					name += " " + b.Lane.String()
				}
				bad = printBook(c, name, b) || bad
			}
			if bad = printBook(c, "all", &st.Totals) || bad; bad {
				return exit{code: exitFailed}
			}
			return nil
		},
	}
}

func printBook(c *cobra.Command, name string, b *aggregator.Book) (bad bool) {
	refused := messages(b.Refused)
	var sum int64
	for _, n := range refused {
		sum += n
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "%s: offered %d = accepted %d + refused %d", name, b.Offered.Messages, b.Accepted.Messages, sum)
	if sum > 0 {
		fmt.Fprintf(w, " (%s)", listed(refused))
	}
	fmt.Fprintf(w, "\n  accepted %d = stored %s + dropped %d + withdrawn %d + queued %d + in flight %d", b.Accepted.Messages,
		stored(messages(b.Stored)), b.Dropped.Messages, b.Withdrawn.Messages, b.Queued.Messages, b.InFlight.Messages)
	if b.Unknown.Messages > 0 {
		fmt.Fprintf(w, "; answered by the clock %d", b.Unknown.Messages)
	}
	fmt.Fprintln(w)
	if err := b.Check(); err != nil {
		fmt.Fprintf(c.ErrOrStderr(), "%v\n", err)
		return true
	}
	return false
}

// stored is "(n1 10 + n2 5)".
func stored(m map[string]int64) string {
	if len(m) == 0 {
		return "0"
	}
	var parts []string
	for place, n := range m {
		parts = append(parts, fmt.Sprintf("%s %d", place, n))
	}
	slices.Sort(parts)
	return "(" + strings.Join(parts, " + ") + ")"
}
