package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"twinscribe/daemon"
)

func ctlCommand() *cobra.Command {
	api := &api{}
	c := &cobra.Command{
		Use:   "ctl",
		Short: "talk to a running server",
		Long: `ctl talks to a running server over HTTP. What changes something is answered on the server's
machine only.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return usage("say what: see 'twinscribe ctl --help'") },
	}
	c.PersistentFlags().StringVar(&api.addr, "addr", defaultHTTP, "HOST:PORT of the server's HTTP port")
	c.AddCommand(ctlStatus(api), ctlBooks(api), ctlCounters(api), ctlVersion(api), ctlReload(api), ctlStop(api),
		ctlDrain(api), ctlUndrain(api))
	return c
}

// api calls the HTTP side of a server.
type api struct{ addr string }

// answerError is what a server says is wrong, perhaps in several lines.
type answerError string

func (e answerError) Error() string { return string(e) }

// call sends a request and decodes the answer into v, unless v is nil.
func (a *api) call(ctx context.Context, method, path string, form url.Values, v any) error {
	u := url.URL{Scheme: "http", Host: a.addr, Path: path, RawQuery: form.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("no server at %s: %w", a.addr, err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("the server at %s: %w", a.addr, err)
	}
	if answer.StatusCode != http.StatusOK {
		var f daemon.Failure
		if json.Unmarshal(b, &f) == nil && f.Error != "" {
			return answerError(f.Error)
		}
		return fmt.Errorf("the server at %s says %s to %s", a.addr, answer.Status, path)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("the answer of %s to %s: %w", a.addr, path, err)
	}
	return nil
}

func ctlStatus(api *api) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "status",
		Short: "what it does, where it writes, what waits",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return api.copy(c, "/v1/status")
			}
			var st daemon.Status
			if err := api.call(c.Context(), http.MethodGet, "/v1/status", nil, &st); err != nil {
				return err
			}
			printStatus(c.OutOrStdout(), &st)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print all of it as JSON")
	return c
}

// copy prints an answer as it came.
func (a *api) copy(c *cobra.Command, path string) error {
	var raw json.RawMessage
	if err := a.call(c.Context(), http.MethodGet, path, nil, &raw); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", raw)
	return err
}

func ctlCounters(api *api) *cobra.Command {
	return &cobra.Command{
		Use:   "counters",
		Short: "the counters under their fb303 names",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var counters map[string]int64
			if err := api.call(c.Context(), http.MethodGet, "/v1/counters", nil, &counters); err != nil {
				return err
			}
			var names []string
			for n := range counters {
				names = append(names, n)
			}
			slices.Sort(names)
			for _, n := range names {
				fmt.Fprintf(c.OutOrStdout(), "%s: %d\n", n, counters[n])
			}
			return nil
		},
	}
}

func ctlVersion(api *api) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "the server's version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var st daemon.Status
			if err := api.call(c.Context(), http.MethodGet, "/v1/status", nil, &st); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), st.Version)
			return nil
		},
	}
}

func ctlReload(api *api) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "read the configuration again; one with a mistake changes nothing",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var done struct{ Warnings []string }
			if err := api.call(c.Context(), http.MethodPost, "/v1/reload", nil, &done); err != nil {
				return err
			}
			for _, w := range done.Warnings {
				fmt.Fprintln(c.ErrOrStderr(), w)
			}
			return nil
		},
	}
}

func ctlStop(api *api) *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "stop the server as TERM does",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return api.call(c.Context(), http.MethodPost, "/v1/stop", nil, nil)
		},
	}
}

func ctlDrain(api *api) *cobra.Command {
	var timeout time.Duration
	force := false
	c := &cobra.Command{
		Use:   "drain CLUSTER",
		Short: "write nothing there until undrain; ends when nothing of ours is open there",
		Long: `drain directs new batches elsewhere and seals the files on the cluster. It ends when no file
of ours is open there or awaits repair, and says on standard error what it waits for. The flag
survives restarts until undrain.

A drain first waits for another cluster that is healthy and not drained; --force does not, and
messages go to the buffer then. When --timeout is over the exit status is 1 and the flag stays.`,
		Example: "  twinscribe ctl drain n1 --timeout 10m",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			return drain(ctx, c, api, args[0], force)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "wait this long")
	c.Flags().BoolVar(&force, "force", false, "also when no other cluster is usable")
	return c
}

func drain(ctx context.Context, c *cobra.Command, api *api, name string, force bool) error {
	const every = 250 * time.Millisecond
	form := url.Values{"cluster": {name}}
	if force {
		form.Set("force", "true")
	}
	var st daemon.DrainStatus
	method, told := http.MethodPost, ""
	for {
		if err := api.call(ctx, method, "/v1/drain", form, &st); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("drain %s: not done in time: %s", name, told)
			}
			return err
		}
		if st.Drained {
			method = http.MethodGet
			if st.Waiting == "" {
				return nil
			}
		}
		if st.Waiting != told {
			told = st.Waiting
			fmt.Fprintf(c.ErrOrStderr(), "drain %s: waits for %s\n", name, told)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drain %s: not done in time: waits for %s", name, told)
		case <-time.After(every):
		}
	}
}

func ctlUndrain(api *api) *cobra.Command {
	return &cobra.Command{
		Use:   "undrain CLUSTER",
		Short: "use a drained cluster again",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return api.call(c.Context(), http.MethodPost, "/v1/undrain", url.Values{"cluster": {args[0]}}, nil)
		},
	}
}

// listed is a map of counts as one line, the largest first.
func listed(m map[string]int64) string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if m[a] != m[b] {
			return int(m[b] - m[a])
		}
		return strings.Compare(a, b)
	})
	for i, n := range names {
		names[i] = fmt.Sprintf("%s %d", n, m[n])
	}
	return strings.Join(names, ", ")
}
