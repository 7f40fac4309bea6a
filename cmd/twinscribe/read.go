package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"twinscribe/conf"
	"twinscribe/daemon"
	"twinscribe/store/reader"
)

// queryFlags say which messages are wanted.
type queryFlags struct {
	configFlags
	category, from, to string
	remote             []string
	elsewhere          bool // messages of what is asked for are in none of what is read
}

func (f *queryFlags) add(c *cobra.Command) {
	f.configFlags.add(c)
	c.Flags().StringVar(&f.category, "category", "", "exact name of a `CATEGORY`")
	c.Flags().StringVar(&f.from, "from", "", "first `TIME`: 2026-11-22, 2026-11-22T10, 2026-11-22T10:15:00Z; whole partitions are read")
	c.Flags().StringVar(&f.to, "to", "", "end `TIME`, exclusive")
	c.Flags().StringSliceVar(&f.remote, "buffer", nil, "`HOST:PORT` of the HTTP side of another aggregator, whose buffer is read too; may be repeated")
}

func (f *queryFlags) query() (q reader.Query, err error) {
	q.Category = f.category
	for _, t := range []struct {
		flag, text string
		to         *time.Time
	}{{"--from", f.from, &q.From}, {"--to", f.to, &q.To}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = parseTime(t.text); err != nil {
			return q, usage("%s: %v", t.flag, err)
		}
	}
	return q, nil
}

func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15", "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: want 2026-11-22, 2026-11-22T10 or 2026-11-22T10:15:00Z, UTC", s)
}

// open makes a reader of the configuration's clusters and buffers.
func (f *queryFlags) open(c *cobra.Command, dead bool) (*daemon.View, error) {
	cfg, warnings, err := f.load()
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		fmt.Fprintln(c.ErrOrStderr(), w)
	}
	f.tellElsewhere(c, cfg)
	return daemon.OpenView(cfg, f.remote, dead)
}

// tellElsewhere names what the configuration's stores write to that is not read.
func (f *queryFlags) tellElsewhere(c *cobra.Command, cfg *conf.Config) {
	e := cfg.Elsewhere(f.category)
	if len(e.Folders) > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "not read: local files under Scribe's names in %s: read them by their names\n", strings.Join(e.Folders, ", "))
	}
	if len(e.Servers) > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "not read: what goes to %s, and waits for that in spools: read it there\n", strings.Join(e.Servers, ", "))
	}
	f.elsewhere = e.Only
}

// status is the error of a command that has read: exitUncounted also where
// messages are elsewhere.
func (f *queryFlags) status(err error) error {
	if err == nil && f.elsewhere {
		return exit{code: exitUncounted}
	}
	return err
}

func readCommand() *cobra.Command {
	var f queryFlags
	var o outputFlags
	all := false
	c := &cobra.Command{
		Use:   "read",
		Short: "print the merged messages of all clusters and the buffer, each once",
		Long: `read prints the messages of a category, each acknowledged one once, as one data set made of all
clusters and the buffer of this state folder: by partition, in it chain by chain in order of
sequence. It needs no running server.

What cannot be counted (a cluster away, a torn file, a segment on another host) is said on
standard error, a line each, and the exit status is then 3.

Local files under Scribe's names, and what goes to other servers, are no part of the data set.
Where a store writes to them that is said too, and the exit status is 3 if the category, or one
of all, has no store that only writes to clusters and the buffer.`,
		Example: "  twinscribe read --category web --from 2026-11-22T10 --to 2026-11-22T12",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if all == (f.category != "") {
				return usage("say either --category CATEGORY or --all")
			}
			return read(c, &f, &o)
		},
	}
	f.add(c)
	c.Flags().BoolVar(&all, "all", false, "all categories")
	c.Flags().BoolVar(&o.asJSON, "json", false, "an object a line, with identity, place and sequence; keeps every message apart")
	c.Flags().BoolVarP(&o.nul, "null", "0", false, "a NUL instead of a line feed behind each message")
	c.Flags().BoolVar(&o.where, "where", false, "cluster and file before each message")
	c.Flags().BoolVar(&o.dead, "dead-letters", false, "the buffer's dead letters too")
	c.MarkFlagsMutuallyExclusive("json", "null", "where")
	return c
}

type outputFlags struct{ asJSON, nul, where, dead bool }

func read(c *cobra.Command, f *queryFlags, o *outputFlags) error {
	q, err := f.query()
	if err != nil {
		return err
	}
	v, err := f.open(c, o.dead)
	if err != nil {
		return err
	}
	defer v.Close()
	out := bufio.NewWriterSize(c.OutOrStdout(), 256<<10)
	report, err := v.Reader.Read(c.Context(), q, o.sink(out))
	if e := out.Flush(); err == nil {
		err = e
	}
	return f.status(tell(c, report, err))
}

// tell prints what a report has to say, and turns it into an exit status.
func tell(c *cobra.Command, r reader.Report, err error) error {
	for _, p := range r.Problems {
		fmt.Fprintf(c.ErrOrStderr(), "problem: %s\n", p)
	}
	for _, u := range r.Uncounted {
		fmt.Fprintf(c.ErrOrStderr(), "not counted: %s\n", u)
	}
	if err != nil {
		return err
	}
	if len(r.Uncounted) > 0 {
		return exit{code: exitUncounted}
	}
	return nil
}

func (o *outputFlags) sink(w *bufio.Writer) func(*reader.Run) error {
	switch {
	case o.asJSON:
		return func(r *reader.Run) error { return r.Each(func(m *reader.Message) error { return printJSON(w, m) }) }
	case o.nul:
		return func(r *reader.Run) error {
			return r.Each(func(m *reader.Message) error { return terminated(w, m.Data, 0) })
		}
	case o.where:
		return func(r *reader.Run) error {
			return r.Each(func(m *reader.Message) error {
				if _, err := fmt.Fprintf(w, "%s:%s: ", m.Place, m.Path); err != nil {
					return err
				}
				return terminated(w, m.Data, '\n')
			})
		}
	}
	return func(r *reader.Run) error {
		_, err := w.Write(r.Data)
		return err
	}
}

func terminated(w *bufio.Writer, b []byte, end byte) error {
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.WriteByte(end)
}

// jsonMessage is one line of read --json. A message that is not UTF-8 comes as
// base64 instead.
type jsonMessage struct {
	Category       string  `json:"category,omitempty"`
	CategoryBase64 []byte  `json:"category_base64,omitempty"`
	Message        *string `json:"message,omitempty"`
	Base64         []byte  `json:"base64,omitempty"`
	Partition      string  `json:"partition"`
	Aggregator     string  `json:"aggregator"`
	Epoch          uint32  `json:"epoch"`
	Start          string  `json:"start"`
	Chain          uint32  `json:"chain"`
	Sequence       uint64  `json:"sequence,omitempty"`
	Arrived        string  `json:"arrived,omitempty"`
	Place          string  `json:"place"`
	Path           string  `json:"path"`
}

func printJSON(w io.Writer, m *reader.Message) error {
	j := jsonMessage{
		Partition: string(m.Partition), Aggregator: m.Identity.Aggregator, Epoch: m.Identity.Epoch, Start: m.Identity.StartID(),
		Chain: m.Chain, Sequence: m.Sequence, Place: m.Place, Path: m.Path,
	}
	if utf8.ValidString(m.Category) {
		j.Category = m.Category
	} else {
		j.CategoryBase64 = []byte(m.Category)
	}
	if utf8.Valid(m.Data) {
		s := string(m.Data)
		j.Message = &s
	} else {
		j.Base64 = m.Data
	}
	if !m.Arrived.IsZero() {
		j.Arrived = m.Arrived.Format(time.RFC3339)
	}
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
