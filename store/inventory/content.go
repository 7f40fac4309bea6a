package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"twinscribe/store/catalog"
)

// A content is an inventory in the form in which the Keeper handles it.
type content struct {
	head    catalog.Inventory // without its items
	entries []*entry
}

const noItems = `"items":[]}`

// encode writes an inventory, an item a line. The items are in the form of
// JSON already.
func encode(head catalog.Inventory, entries []*entry) []byte {
	head.Items, head.Version = []catalog.Item{}, catalog.Version
	for _, e := range entries {
		head.Version = max(head.Version, e.version)
	}
	h, err := json.Marshal(head)
	if err != nil || !bytes.HasSuffix(h, []byte(noItems)) {
		panic(fmt.Sprintf("inventory: items are not the last field of %s: %v", h, err))
	}
	size := len(h) + len("\n\n")
	for _, e := range entries {
		size += len(e.raw) + len(",\n")
	}
	out := make([]byte, 0, size)
	out = append(out, h[:len(h)-len("]}")]...)
	for i, e := range entries {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '\n')
		out = append(out, e.raw...)
	}
	return append(out, "]}\n"...)
}

// decode reads the inventory of id, which lies in file.
func decode(id bookID, file string, b []byte) (*content, error) {
	inv, err := catalog.DecodeInventory(file, b)
	if err != nil {
		return nil, err
	}
	if owner, err := inv.Identity(); err != nil || owner != id.id || inv.Partition != id.partition {
		return nil, fmt.Errorf("inventory %s is of %s.%s, %s: %w", file, inv.Aggregator, inv.Start, inv.Partition, catalog.ErrMalformed)
	}
	c := &content{head: *inv, entries: make([]*entry, len(inv.Items))}
	for i := range inv.Items {
		c.entries[i] = newEntry(inv.Items[i])
	}
	c.head.Items = nil
	return c, nil
}

// readHead reads the fields in front of the items, so that the counter of a
// large copy is had without the rest of it. file stands in errors, which are
// catalog.ErrNewer, catalog.ErrMalformed, or r's.
func readHead(file string, r io.Reader) (catalog.Inventory, error) {
	var head catalog.Inventory
	fields, err := readFields(json.NewDecoder(r))
	if err != nil {
		return head, fmt.Errorf("inventory %s: %w", file, err)
	}
	if json.Unmarshal(fields["version"], &head.Version) == nil && head.Version > catalog.TargetVersion {
		return head, fmt.Errorf("inventory %s has version %d, this program knows %d: %w", file, head.Version, catalog.TargetVersion, catalog.ErrNewer)
	}
	b, err := json.Marshal(fields)
	if err == nil {
		err = json.Unmarshal(b, &head)
	}
	if err == nil && head.Version < 1 {
		err = fmt.Errorf("version %d", head.Version)
	}
	if err != nil {
		return head, fmt.Errorf("inventory %s: %w: %v", file, catalog.ErrMalformed, err)
	}
	return head, nil
}

// readFields reads an object up to its items.
func readFields(d *json.Decoder) (map[string]json.RawMessage, error) {
	if t, err := d.Token(); err != nil {
		return nil, malformed(err)
	} else if t != json.Delim('{') {
		return nil, malformed(errors.New("it does not begin as an object"))
	}
	fields := make(map[string]json.RawMessage)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, malformed(err)
		}
		name, _ := t.(string)
		if name == "items" {
			break
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, malformed(err)
		}
		fields[name] = raw
	}
	return fields, nil
}

// malformed tells content that makes no sense from a reader that failed.
func malformed(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %v", catalog.ErrMalformed, err)
	}
	return err
}
