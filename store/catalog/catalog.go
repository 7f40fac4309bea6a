// Package catalog holds the names and the formats that twinscribe keeps beside
// the data, and that every reader of the data shares: partitions, the folder
// of a category, names of files, manifest, inventory and member file. The
// journal (store/journal) and the reader (store/reader) are made of the same
// types. docs/formats describes them byte by byte.
//
// It leaves to others: reading and writing them on a cluster.
package catalog

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Versions of the formats in this package. A program refuses a newer one than
// it knows by name, so what has nothing new in it is written as Version.
const (
	Version = 1
	// TargetVersion is that of a manifest with a Target, and of an inventory
	// that tells of such files. A program that does not know them would look for
	// the data in the wrong place.
	TargetVersion = 2
)

// Text is a string of any bytes. In JSON it is a string where it is UTF-8 and
// {"base64": "..."} where it is not, so that nothing is changed on the way.
type Text string

type rawText struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(rawText{[]byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = Text(s)
		return nil
	}
	var r rawText
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("want a string or {\"base64\": ...}: %w", err)
	}
	*t = Text(r.Base64)
	return nil
}

// A Range is a run of sequences that lies in one piece in a file.
type Range struct {
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	Offset int64  `json:"offset"` // of the first message, in the file's text
	End    int64  `json:"end"`
	// Counted: by a repair that had no journal line for it and counted the
	// messages. An exact range (the normal case) wins over it.
	Counted bool `json:"counted,omitempty"`
}

// BatchID names one call of a client that numbers its calls, so that its own
// retry after a lost answer is recognised.
type BatchID struct {
	Producer Text   `json:"producer"`
	Epoch    uint64 `json:"epoch"`
	Sequence uint64 `json:"sequence"`
}

// A BatchSpan says where messages of a call with a batch id lie: Messages
// messages from sequence First on are the messages From, From+1, ... of that
// call in this category. A reader takes each (BatchID, category, index) once.
type BatchSpan struct {
	BatchID
	From     uint32 `json:"from"`
	First    uint64 `json:"first"`
	Messages uint32 `json:"messages"`
}

// A Span is a run of bytes of a file's text.
type Span struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// An Arrival says when, and from whom, the messages from sequence First on
// came, up to the next Arrival. Compact: about one for each second.
type Arrival struct {
	First   uint64   `json:"first"`
	Millis  int64    `json:"millis"` // since 1970 UTC
	Senders []string `json:"senders,omitempty"`
}

// A Manifest says what a sealed file holds. It is written before the rename
// that commits the file, never changed after it, and lies beside the file.
type Manifest struct {
	Version    int       `json:"version"`
	File       string    `json:"file"` // final base name
	Aggregator string    `json:"aggregator"`
	Epoch      uint32    `json:"epoch"`
	Start      string    `json:"start"`
	Chain      uint32    `json:"chain"`
	Category   Text      `json:"category"`
	Partition  Partition `json:"partition"`
	Bytes      int64     `json:"bytes"`
	Messages   int64     `json:"messages"`
	CRC32C     uint32    `json:"crc32c"` // Castagnoli, of the file's bytes
	Ranges     []Range   `json:"ranges"`
	// LineFeeds are the messages with line feeds inside, with their terminator:
	// all others are exactly one line.
	LineFeeds []Span      `json:"line_feeds,omitempty"`
	IDs       []BatchSpan `json:"ids,omitempty"`
	Arrivals  []Arrival   `json:"arrivals,omitempty"`
	Reason    string      `json:"reason"` // why it was sealed: size, partition, idle, visible, drain, stop, failover, repair, ship, files
	Sealed    int64       `json:"sealed"` // nanoseconds since 1970 UTC
	// Missing are the acknowledged bytes that the cluster had lost when the
	// file was repaired: they followed the file's last.
	Missing int64 `json:"missing,omitempty"`
	// Target is there for a file that takes a name in somebody else's folder, and
	// At is the one that it takes, below the cluster's root; empty: it is not
	// found yet. Before the rename At may still change, after it it never does.
	Target *Target `json:"target,omitempty"`
	At     string  `json:"at,omitempty"`
}

// The states of an item in an inventory.
const (
	StateOpen    = "open"    // being written, or its writer died and it awaits repair; Manifest tells the published prefix
	StateSealing = "sealing" // no longer written to, not yet under its final name; Manifest tells all of it
	StateSealed  = "sealed"  // under its final name
	StateTorn    = "torn"    // its writer failed; awaits repair. Manifest tells what must be in it
	StateSegment = "segment" // lies in a local segment of the aggregator
	StateShipped = "shipped" // a segment whose messages stand in sealed files
)

// An Item is one file or the part of a segment that one start wrote into one
// partition.
type Item struct {
	Category Text   `json:"category"`
	Chain    uint32 `json:"chain"`
	Place    string `json:"place"` // the cluster's name, or "buffer"
	Path     string `json:"path"`  // the file's final path below the root, or what it would be without a target; the segment's name
	// At is where a sealed file with a target lies, below the cluster's root.
	At       string  `json:"at,omitempty"`
	State    string  `json:"state"`
	Bytes    int64   `json:"bytes"`
	Messages int64   `json:"messages"`
	Ranges   []Range `json:"ranges,omitempty"`
	// Manifest is there for items without a manifest of their own on the
	// cluster (open, sealing, torn): what is acknowledged and published of them.
	Manifest *Manifest `json:"manifest,omitempty"`
}

// An Inventory is what one start of an aggregator wrote into one partition,
// all categories. It lies on every cluster; the highest counter counts.
type Inventory struct {
	Version    int       `json:"version"`
	Aggregator string    `json:"aggregator"`
	Epoch      uint32    `json:"epoch"`
	Start      string    `json:"start"`
	Partition  Partition `json:"partition"`
	Counter    uint64    `json:"counter"`
	Updated    int64     `json:"updated"` // nanoseconds since 1970 UTC
	// Ended: the start is over or has left the partition; no item will be added.
	Ended bool   `json:"ended"`
	Items []Item `json:"items"`
}

// A Member is one start of an aggregator, alive or not.
type Member struct {
	Version    int    `json:"version"`
	Aggregator string `json:"aggregator"`
	Epoch      uint32 `json:"epoch"`
	Start      string `json:"start"`
	Host       string `json:"host"`
	Program    string `json:"program"` // the version of the binary
	Since      int64  `json:"since"`   // nanoseconds since 1970 UTC
	Touched    int64  `json:"touched"` // the same, every 30 s
	HTTP       string `json:"http"`    // where /v1/segments answers
	Ended      bool   `json:"ended"`   // stopped in order; nothing of it is open
}
