package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/conf"
	"twinscribe/daemon"
	"twinscribe/store/ship"
)

func bufferCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "buffer",
		Short: "look into the buffer, upload it, write it off",
		Long: `buffer works on the segments of a state folder. ls, verify and cat only read and need no
server. ship and forget ask the server where one holds the folder, and do it themselves where
none does.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return usage("say what: see 'twinscribe buffer --help'") },
	}
	c.AddCommand(bufferLs(), bufferVerify(), bufferCat(), bufferShip(), bufferForget())
	return c
}

// folder is the buffer's of a configuration.
func (f *configFlags) folder(c *cobra.Command) (string, error) {
	cfg, err := f.loadTold(c)
	if err != nil {
		return "", err
	}
	return daemon.BufferPath(cfg), nil
}

// loadTold is load with the warnings told.
func (f *configFlags) loadTold(c *cobra.Command) (*conf.Config, error) {
	cfg, warnings, err := f.load()
	for _, w := range warnings {
		fmt.Fprintln(c.ErrOrStderr(), w)
	}
	return cfg, err
}

func bufferLs() *cobra.Command {
	var f configFlags
	asJSON := false
	c := &cobra.Command{
		Use:   "ls",
		Short: "the segments: reason, state, messages, bytes",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := f.folder(c)
			if err != nil {
				return err
			}
			list, err := buffer.List(vfs.OS(), dir)
			if err != nil {
				return err
			}
			for i := range list {
				if err := printSegment(c, &list[i], asJSON); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "an object a line")
	return c
}

func printSegment(c *cobra.Command, s *buffer.Segment, asJSON bool) error {
	state := "open"
	switch {
	case s.Shipped:
		state = "shipped"
	case s.Sealed:
		state = "sealed"
	}
	if asJSON {
		b, err := json.Marshal(map[string]any{"name": s.Name, "reason": s.Reason.String(), "state": state, "bytes": s.Bytes,
			"records": s.Records, "messages": s.Messages, "created": s.Created.UTC().Format(time.RFC3339), "damaged": s.Damaged, "problem": s.Problem})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", b)
		return err
	}
	damaged := ""
	if s.Damaged {
		damaged = "  DAMAGED " + s.Problem
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%-11s %-7s %10d messages %12d bytes  %s  %s%s\n",
		s.Reason, state, s.Messages, s.Bytes, s.Created.UTC().Format(time.RFC3339), s.Name, damaged)
	return err
}

func bufferVerify() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:   "verify",
		Short: "read every byte of every segment and check it",
		Long: `verify reads every byte of every segment. The exit status is 1 if any is damaged. The end of a
segment that is being written, or that a crash cut off, is no damage.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := f.folder(c)
			if err != nil {
				return err
			}
			return eachSegment(c, dir, "", func(seg *buffer.Segment, _ *buffer.Record) error { return nil }, true)
		},
	}
	f.add(c)
	return c
}

// eachSegment reads the segments of a reason, or all, and says what is damaged.
func eachSegment(c *cobra.Command, dir, reason string, each func(*buffer.Segment, *buffer.Record) error, summary bool) error {
	fs := vfs.OS()
	list, err := buffer.List(fs, dir)
	if err != nil {
		return err
	}
	var messages, records int64
	segments, damaged := 0, 0
	for i := range list {
		seg := &list[i]
		if reason != "" && seg.Reason.String() != reason {
			continue
		}
		r, err := buffer.ReadSegment(fs, seg.Path, func(rec *buffer.Record) error { return each(seg, rec) })
		if err != nil {
			return err
		}
		segments++
		messages += r.Messages
		records += r.Records
		for _, d := range r.Damage {
			fmt.Fprintf(c.ErrOrStderr(), "%s: %v\n", seg.Name, d)
		}
		if r.Damaged() {
			damaged++
			if r.Segment.Problem != "" {
				fmt.Fprintf(c.ErrOrStderr(), "%s: %s\n", seg.Name, r.Segment.Problem)
			}
		}
	}
	if summary {
		fmt.Fprintf(c.OutOrStdout(), "%d segments, %d records, %d messages; damaged %d\n", segments, records, messages, damaged)
	}
	if damaged > 0 {
		return exit{code: exitFailed}
	}
	return nil
}

func bufferCat() *cobra.Command {
	var f configFlags
	reason, category := "", ""
	c := &cobra.Command{
		Use:   "cat",
		Short: "print the messages of the segments, dead letters with their reason",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := knownReason(reason); err != nil {
				return err
			}
			dir, err := f.folder(c)
			if err != nil {
				return err
			}
			out := bufio.NewWriterSize(c.OutOrStdout(), 256<<10)
			err = eachSegment(c, dir, reason, func(_ *buffer.Segment, r *buffer.Record) error {
				if category != "" && r.Category != category {
					return nil
				}
				if r.Note != "" {
					if _, err := fmt.Fprintf(out, "# %d messages of category %.200q: %s\n", len(r.Ends), r.Category, r.Note); err != nil {
						return err
					}
				}
				_, err := out.Write(r.Data)
				return err
			}, false)
			return errors.Join(err, out.Flush())
		},
	}
	f.add(c)
	c.Flags().StringVar(&reason, "reason", "", "only `REASON`: spill, outage, unrouted, dead-letter")
	c.Flags().StringVar(&category, "category", "", "only this `CATEGORY`")
	return c
}

// knownReason refuses what is neither empty nor a reason, nor one of others.
func knownReason(reason string, others ...string) error {
	known := others
	for r := buffer.Spill; r <= buffer.DeadLetter; r++ {
		known = append(known, r.String())
	}
	if reason != "" && !slices.Contains(known, reason) {
		return usage("--reason: unknown reason %q: there are %s", reason, strings.Join(known, ", "))
	}
	return nil
}

// choose adds the flags of a daemon.Choice.
func choose(c *cobra.Command, choice *daemon.Choice) {
	c.Flags().StringVar(&choice.Reason, "reason", "", "segments of `REASON`: spill, outage, unrouted, dead-letter, all")
}

func bufferShip() *cobra.Command {
	var f configFlags
	var choice daemon.Choice
	c := &cobra.Command{
		Use:   "ship [SEGMENT...]",
		Short: "upload segments as sealed files, outages by default",
		Long: `ship uploads segments to a usable cluster as sealed files, with their partitions and sequences.
Spills are shipped by the server itself; outages only by this command, or by replay: auto. It can
be ended and begun again at any time: every message is there once.`,
		RunE: func(c *cobra.Command, segments []string) error {
			choice.Segments = names(segments)
			if err := knownReason(choice.Reason, "all"); err != nil {
				return err
			}
			return moved(c, &f, choice, "ship", "shipped", func(ctx context.Context, t *daemon.Tools) (daemon.Done, error) {
				return t.Ship(ctx, choice, progress(c))
			})
		},
	}
	f.add(c)
	choose(c, &choice)
	return c
}

func bufferForget() *cobra.Command {
	var f configFlags
	var choice daemon.Choice
	c := &cobra.Command{
		Use:   "forget [SEGMENT...]",
		Short: "delete segments with their messages, counted as dropped by order",
		RunE: func(c *cobra.Command, segments []string) error {
			choice.Segments = names(segments)
			if choice.Reason == "" && len(segments) == 0 {
				return usage("say which segments, or --reason")
			}
			if err := knownReason(choice.Reason, "all"); err != nil {
				return err
			}
			return moved(c, &f, choice, "forget", "deleted", func(ctx context.Context, t *daemon.Tools) (daemon.Done, error) {
				return t.Forget(ctx, choice)
			})
		},
	}
	f.add(c)
	choose(c, &choice)
	return c
}

// names are base names: a path as ls or the shell completes it is as good.
func names(paths []string) []string {
	var list []string
	for _, p := range paths {
		list = append(list, filepath.Base(p))
	}
	return list
}

// moved asks the server, or does it where none runs.
func moved(c *cobra.Command, f *configFlags, choice daemon.Choice, path, word string, self func(context.Context, *daemon.Tools) (daemon.Done, error)) error {
	cfg, err := f.loadTold(c)
	if err != nil {
		return err
	}
	var done daemon.Done
	t, err := daemon.OpenTools(c.Context(), cfg, zap.NewNop(), version)
	switch {
	case err == nil:
		done, err = self(c.Context(), t)
		err = errors.Join(err, t.Close(c.Context()))
	case errors.Is(err, daemon.ErrServed):
		a := &api{addr: cfg.Listen.HTTP}
		err = a.call(c.Context(), http.MethodPost, "/v1/"+path, url.Values{"reason": {choice.Reason}, "segment": choice.Segments}, &done)
	}
	if err == nil || done.Segments > 0 {
		fmt.Fprintf(c.OutOrStdout(), "%d segments %s, %d messages\n", done.Segments, word, done.Messages)
	}
	return err
}

// progress tells on standard error, at most once a second, for what takes long.
func progress(c *cobra.Command) func(ship.Progress) {
	last := time.Now()
	return func(p ship.Progress) {
		if time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		fmt.Fprintf(c.ErrOrStderr(), "%s\n", p)
	}
}
