package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"twinscribe/thrift/loadgen"
)

func benchCommand() *cobra.Command {
	o := loadgen.Options{}
	asJSON := false
	c := &cobra.Command{
		Use:   "bench",
		Short: "send generated messages, check every answer, print rates and latencies",
		Long: `bench opens connections that each have one Log call outstanding, checks every answer, and
prints messages and bytes per second and the latency of the answers.

It exits with 1 if any connection ended by an error or any answer was wrong, and with 3 if a
call was answered TRY_LATER.`,
		Example: "  twinscribe bench --connections 8 --batch 1000 --size 200 --duration 10s",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return usage("%v", err)
			}
			r, err := loadgen.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if err := printBench(c, r, asJSON); err != nil {
				return err
			}
			switch {
			case r.Errors > 0:
				return fmt.Errorf("%d connections ended by an error; the first: %w", r.Errors, r.FirstError)
			case r.TryLater > 0:
				return exit{code: exitUncounted}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Addr, "addr", defaultThrift, "HOST:PORT of the server's Thrift port")
	f.IntVar(&o.Connections, "connections", 8, "connections")
	f.IntVar(&o.Batch, "batch", 100, "messages a call")
	f.IntVar(&o.Size, "size", 200, "bytes a message")
	f.StringVar(&o.Category, "category", "bench", "category; with --categories above 1 a number is added")
	f.IntVar(&o.Categories, "categories", 1, "categories that the messages of a call go round")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "how long")
	f.IntVar(&o.Calls, "calls", 0, "calls of each connection at most; 0: no limit but --duration")
	f.Float64Var(&o.Rate, "rate", 0, "messages a second, all connections together; 0: as fast as answers come")
	f.DurationVar(&o.Timeout, "timeout", 30*time.Second, "for one answer")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printBench(c *cobra.Command, r loadgen.Result, asJSON bool) error {
	seconds := r.Elapsed.Seconds()
	if asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(map[string]any{
			"seconds": seconds, "calls": r.Calls, "messages": r.Messages, "bytes": r.Bytes,
			"try_later": r.TryLater, "errors": r.Errors,
			"messages_per_second": float64(r.Messages) / seconds, "bytes_per_second": float64(r.Bytes) / seconds,
			"p50_seconds": r.P50.Seconds(), "p99_seconds": r.P99.Seconds(), "max_seconds": r.Max.Seconds(),
		})
	}
	_, err := fmt.Fprintf(c.OutOrStdout(),
		"%d messages in %d calls in %.1f s: %.0f messages/s, %.1f MB/s\nanswers: p50 %v, p99 %v, max %v; TRY_LATER %d, errors %d\n",
		r.Messages, r.Calls, seconds, float64(r.Messages)/seconds, float64(r.Bytes)/1e6/seconds,
		r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond), r.Max.Round(time.Microsecond), r.TryLater, r.Errors)
	return err
}
