package catalog

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// An Identity is one start of one aggregator. The start id is random, so that
// names stay unique when the state directory with the epoch was lost.
type Identity struct {
	Aggregator string // letters, digits, '.', '_' and '-', beginning with a letter or digit
	Epoch      uint32 // counted up and fsynced at each start
	Start      uint32 // the start id
}

// StartID is the start id as names and formats spell it: eight hex digits.
func (i Identity) StartID() string { return fmt.Sprintf("%08x", i.Start) }

// String is "ag1-0000002a.7f3c91d2".
func (i Identity) String() string {
	return fmt.Sprintf("%s-%08x.%08x", i.Aggregator, i.Epoch, i.Start)
}

// Reserved folders below a cluster's root. Categories never collide with them:
// Folder escapes a leading underscore.
const (
	MembersFolder   = "_members"
	InventoryFolder = "_inventory"
)

// A Name is the name of one data file of ours, without its folder.
//
//	20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log         written live: Number 17
//	20261122T1007Z-ag1-0000002a.7f3c91d2-s00003.00012.log  shipped: segment 3, chain 12
type Name struct {
	Time     time.Time // when it was begun, to the minute, UTC: for people, nothing rests on it
	Identity Identity  // who wrote the messages (not who ships or repairs the file)
	Number   uint32    // of the file within the start, from 1; of the chain where Shipped
	Segment  uint32    // the segment a shipped file was made from
	Shipped  bool
}

const nameTime = "20060102T1504Z"

func (n Name) stem() string {
	number := fmt.Sprintf("%05d", n.Number)
	if n.Shipped {
		number = fmt.Sprintf("s%05d.%05d", n.Segment, n.Number)
	}
	return fmt.Sprintf("%s-%s-%s", n.Time.UTC().Format(nameTime), n.Identity, number)
}

// Sealed is the final name: whoever sees it may read all of it.
func (n Name) Sealed() string { return n.stem() + ".log" }

// Open is the name while it is being written. Like every name that begins with
// an underscore it is skipped by Hadoop's readers.
func (n Name) Open() string { return "_" + n.stem() + ".log.open" }

// Manifest is the name of its manifest.
func (n Name) Manifest() string { return "_" + n.stem() + ".log.json" }

// A Form is what a name says a file is.
type Form int

// The forms of file names.
const (
	FormOther Form = iota // not a name of ours
	FormSealed
	FormOpen
	FormManifest
)

// ParseName reads the base name of a file. FormOther comes with a zero Name.
func ParseName(base string) (Name, Form) {
	var form Form
	var stem string
	switch {
	case strings.HasPrefix(base, "_") && strings.HasSuffix(base, ".log.open"):
		form, stem = FormOpen, base[1:len(base)-len(".log.open")]
	case strings.HasPrefix(base, "_") && strings.HasSuffix(base, ".log.json"):
		form, stem = FormManifest, base[1:len(base)-len(".log.json")]
	case strings.HasSuffix(base, ".log"):
		form, stem = FormSealed, base[:len(base)-len(".log")]
	default:
		return Name{}, FormOther
	}
	// Only the one spelling that Name writes counts: two names of one file would
	// be two files to everybody who compares names.
	n, ok := parseStem(stem)
	if !ok || n.stem() != stem {
		return Name{}, FormOther
	}
	return n, form
}

func parseStem(stem string) (n Name, ok bool) {
	when, rest, ok1 := strings.Cut(stem, "-")
	cut := strings.LastIndexByte(rest, '-')
	if !ok1 || cut < 0 {
		return Name{}, false
	}
	id, number := rest[:cut], rest[cut+1:]
	var err error
	if n.Time, err = time.Parse(nameTime, when); err != nil {
		return Name{}, false
	}
	if n.Identity, err = ParseIdentity(id); err != nil {
		return Name{}, false
	}
	if segment, chain, shipped := strings.Cut(number, "."); shipped {
		n.Shipped = true
		s, err := strconv.ParseUint(strings.TrimPrefix(segment, "s"), 10, 32)
		if err != nil || !strings.HasPrefix(segment, "s") {
			return Name{}, false
		}
		n.Segment, number = uint32(s), chain
	}
	u, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return Name{}, false
	}
	n.Number = uint32(u)
	return n, true
}

// ParseIdentity reads what Identity.String wrote.
func ParseIdentity(s string) (Identity, error) {
	cut := strings.LastIndexByte(s, '-')
	if cut <= 0 {
		return Identity{}, fmt.Errorf("identity %q: want aggregator-epoch.start", s)
	}
	epoch, start, ok := strings.Cut(s[cut+1:], ".")
	e, err1 := strconv.ParseUint(epoch, 16, 32)
	t, err2 := strconv.ParseUint(start, 16, 32)
	id := Identity{Aggregator: s[:cut], Epoch: uint32(e), Start: uint32(t)}
	if !ok || err1 != nil || err2 != nil || id.String() != s {
		return Identity{}, fmt.Errorf("identity %q: want aggregator-epoch.start", s)
	}
	if err := CheckAggregator(id.Aggregator); err != nil {
		return Identity{}, fmt.Errorf("identity %q: %w", s, err)
	}
	return id, nil
}

// MaxAggregator is the length of the longest aggregator id, in bytes: with it
// every name of ours stays below what file systems allow.
const MaxAggregator = 128

// CheckAggregator says what is wrong with an aggregator id.
func CheckAggregator(id string) error {
	if id == "" || len(id) > MaxAggregator {
		return fmt.Errorf("aggregator id of %d bytes, want 1 to %d", len(id), MaxAggregator)
	}
	for i := range len(id) {
		if c := id[i]; !plain(c) || i == 0 && (c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("aggregator id %q: want letters, digits, '.', '_' and '-', beginning with a letter or digit", id)
		}
	}
	return nil
}

// MemberPath is the member file of one start, relative to a cluster's root.
func MemberPath(i Identity) string {
	return path.Join(MembersFolder, i.Aggregator+"."+i.StartID()+".json")
}

// InventoryPath is the inventory of one start and partition, relative to a cluster's root.
func InventoryPath(i Identity, p Partition) string {
	return path.Join(InventoryFolder, string(p), i.Aggregator+"."+i.StartID()+".json")
}
