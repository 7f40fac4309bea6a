package reader

import (
	"context"
	"time"

	"twinscribe/store/catalog"
)

// An Item is one file, or what one segment holds of one chain and partition.
type Item struct {
	Category   string            `json:"-"`
	Text       catalog.Text      `json:"category"` // the category, of any bytes
	Partition  catalog.Partition `json:"partition"`
	Place      string            `json:"place"`
	Path       string            `json:"path"`  // where it is now: an open file's own name
	State      string            `json:"state"` // catalog's: sealed, open, sealing, torn, segment, shipped
	Aggregator string            `json:"aggregator"`
	Start      string            `json:"start"` // epoch and start id, as names spell them
	Chain      uint32            `json:"chain"`
	Messages   int64             `json:"messages"` // -1: not known
	Bytes      int64             `json:"bytes"`
	Reason     string            `json:"reason,omitempty"` // why it was sealed
	Sealed     time.Time         `json:"sealed,omitzero"`
	// Missing says why it was not looked at, or that it is not there: the rest
	// is what an inventory tells.
	Missing string `json:"missing,omitempty"`
}

// List gives what there is for a query to f, in the order in which Read reads,
// and ends at f's first error. It reads manifests and inventories and no data.
func (r *Reader) List(ctx context.Context, q Query, f func(*Item) error) (Report, error) {
	p, err := r.begin(ctx, q)
	if err != nil {
		return p.report, err
	}
	defer p.closeSegments()
	err = p.each(ctx, func(u *unit) error {
		for _, i := range u.list() {
			p.report.Messages += max(i.Messages, 0)
			p.report.Bytes += i.Bytes
			if err := f(&i); err != nil {
				return err
			}
		}
		return nil
	})
	p.tell()
	return p.report, err
}

// list is all of a unit: files, segments, and what is missing.
func (u *unit) list() []Item {
	var out []Item
	for _, files := range [][]*file{u.files, u.strangers, u.unused} {
		for _, f := range files {
			out = append(out, f.item())
		}
	}
	for _, s := range u.parts {
		out = append(out, s.item())
	}
	for i := range u.items {
		item := &u.items[i]
		if item.file != nil || item.why == "" || item.here {
			continue
		}
		out = append(out, Item{Category: u.category, Text: catalog.Text(u.category), Partition: u.partition, Place: item.Place, Path: item.shown(), State: item.State,
			Aggregator: item.id.Aggregator, Start: epochStart(item.id), Chain: item.Chain, Messages: item.Messages, Bytes: item.Bytes, Missing: item.why})
	}
	return out
}

func epochStart(id catalog.Identity) string { return id.String()[len(id.Aggregator)+1:] }

func (f *file) item() Item {
	place, path := f.where()
	i := Item{Category: f.category, Text: catalog.Text(f.category), Partition: f.partition, Place: place, Path: path, State: f.state,
		Aggregator: f.name.Identity.Aggregator, Start: epochStart(f.name.Identity), Chain: f.chain, Messages: -1, Bytes: f.size}
	if m := f.manifest; m != nil {
		i.Messages, i.Bytes, i.Reason = m.Messages, m.Bytes, m.Reason
		if m.Sealed != 0 {
			i.Sealed = time.Unix(0, m.Sealed).UTC()
		}
	}
	return i
}
