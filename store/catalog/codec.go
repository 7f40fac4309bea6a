package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
)

// The largest files of each format that a program reads, in bytes. Whoever
// writes one stays below: a data file whose manifest cannot be read is a file
// whose messages cannot be counted.
const (
	MaxManifest  = 256 << 20
	MaxInventory = 256 << 20
	MaxMember    = 64 << 10
)

var (
	// ErrNewer marks a format that only a newer program can read.
	ErrNewer = errors.New("written by a newer program")

	// ErrMalformed marks content that is not what its name says, or that
	// contradicts itself.
	ErrMalformed = errors.New("malformed")
)

// decode reads one format. what names it, file says where it lies.
func decode[T any](what, file string, b []byte, limit int) (*T, error) {
	if len(b) > limit {
		return nil, fmt.Errorf("%s %s: %d bytes, want %d at most: %w", what, file, len(b), limit, ErrMalformed)
	}
	// Of a newer format nothing but the version need make sense here.
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %v", what, file, ErrMalformed, err)
	}
	if head.Version > TargetVersion {
		return nil, fmt.Errorf("%s %s has version %d, this program knows %d: %w", what, file, head.Version, TargetVersion, ErrNewer)
	}
	if head.Version < 1 {
		return nil, fmt.Errorf("%s %s: version %d: %w", what, file, head.Version, ErrMalformed)
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %v", what, file, ErrMalformed, err)
	}
	return v, nil
}

// encode writes one format.
func encode(what string, v any, limit int) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(b) >= limit {
		return nil, fmt.Errorf("%s: %d bytes, want less than %d", what, len(b), limit)
	}
	return append(b, '\n'), nil
}

// DecodeManifest reads a manifest that lies in file; the name only stands in
// errors, which are ErrNewer or ErrMalformed. What it returns does not
// contradict itself (see Manifest.Check).
func DecodeManifest(file string, b []byte) (*Manifest, error) {
	m, err := decode[Manifest]("manifest", file, b, MaxManifest)
	if err != nil {
		return nil, err
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", file, err)
	}
	return m, nil
}

// Encode is the manifest as it is stored. It fails for one that DecodeManifest
// would refuse.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", m.File, err)
	}
	return encode("manifest of "+m.File, m, MaxManifest)
}

// DecodeInventory reads an inventory that lies in file. Like DecodeManifest;
// what is wrong with one item refuses all of it, because what an inventory
// says is missing must be everything that is missing.
func DecodeInventory(file string, b []byte) (*Inventory, error) {
	i, err := decode[Inventory]("inventory", file, b, MaxInventory)
	if err != nil {
		return nil, err
	}
	if err := i.check(); err != nil {
		return nil, fmt.Errorf("inventory %s: %w", file, err)
	}
	return i, nil
}

// Encode is the inventory as it is stored.
func (i *Inventory) Encode() ([]byte, error) {
	if err := i.check(); err != nil {
		return nil, fmt.Errorf("inventory of %s.%s: %w", i.Aggregator, i.Start, err)
	}
	return encode("inventory of "+i.Aggregator+"."+i.Start, i, MaxInventory)
}

// DecodeMember reads a member file that lies in file. Like DecodeManifest.
func DecodeMember(file string, b []byte) (*Member, error) {
	m, err := decode[Member]("member file", file, b, MaxMember)
	if err != nil {
		return nil, err
	}
	if _, err := m.Identity(); err != nil {
		return nil, fmt.Errorf("member file %s: %w", file, err)
	}
	return m, nil
}

// Encode is the member file as it is stored.
func (m *Member) Encode() ([]byte, error) {
	if _, err := m.Identity(); err != nil {
		return nil, fmt.Errorf("member file: %w", err)
	}
	return encode("member file of "+m.Aggregator+"."+m.Start, m, MaxMember)
}

// identity puts together what the formats keep in three fields.
func identity(aggregator string, epoch uint32, start string) (Identity, error) {
	id, err := ParseIdentity(fmt.Sprintf("%s-%08x.%s", aggregator, epoch, start))
	if err != nil || id.Aggregator != aggregator {
		return Identity{}, fmt.Errorf("aggregator %q, start %q are no identity: %w", aggregator, start, ErrMalformed)
	}
	return id, nil
}

// Identity is the start that wrote the file's messages.
func (m *Manifest) Identity() (Identity, error) { return identity(m.Aggregator, m.Epoch, m.Start) }

// Identity is the start whose inventory it is.
func (i *Inventory) Identity() (Identity, error) { return identity(i.Aggregator, i.Epoch, i.Start) }

// Identity is the start that the member is.
func (m *Member) Identity() (Identity, error) { return identity(m.Aggregator, m.Epoch, m.Start) }

// Check says what in a manifest contradicts itself: identity, partition,
// ranges that overlap or leave the file, counts that do not add up. A manifest
// without mistake can be used without further care for lengths and order. The
// error is ErrMalformed.
func (m *Manifest) Check() error {
	if _, err := m.Identity(); err != nil {
		return err
	}
	if _, err := m.Partition.Start(); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if m.Bytes < 0 || m.Messages < 0 || m.Missing < 0 {
		return fmt.Errorf("%d bytes, %d messages, %d bytes missing: %w", m.Bytes, m.Messages, m.Missing, ErrMalformed)
	}
	if err := checkRanges(m.Ranges, m.Bytes, m.Messages); err != nil {
		return err
	}
	if err := m.checkTarget(); err != nil {
		return err
	}
	end := int64(0)
	for i, s := range m.LineFeeds {
		if s.Offset < end || s.Length < 2 || s.Length > m.Bytes-s.Offset {
			return fmt.Errorf("message with line feeds %d at byte %d, %d long, of %d: %w", i, s.Offset, s.Length, m.Bytes, ErrMalformed)
		}
		end = s.Offset + s.Length
	}
	for i, s := range m.IDs {
		if s.Messages == 0 || s.First == 0 || s.From > math.MaxUint32-s.Messages || s.First > math.MaxUint64-uint64(s.Messages) {
			return fmt.Errorf("batch id %d: %d messages from %d on: %w", i, s.Messages, s.First, ErrMalformed)
		}
	}
	return nil
}

// checkRanges checks ranges of a file of this many bytes and messages.
func checkRanges(ranges []Range, bytes, messages int64) error {
	end, left := int64(0), uint64(messages)
	for i, r := range ranges {
		if r.First == 0 || r.Last < r.First || r.Last == math.MaxUint64 || r.Offset < end || r.End < r.Offset || r.End > bytes {
			return fmt.Errorf("range %d of sequences %d to %d, bytes %d to %d of %d: %w", i, r.First, r.Last, r.Offset, r.End, bytes, ErrMalformed)
		}
		n := r.Last - r.First + 1
		if n > left || uint64(r.End-r.Offset) < n { // a message has one byte at least
			return fmt.Errorf("range %d of %d messages in %d bytes, %d of %d messages left: %w", i, n, r.End-r.Offset, left, messages, ErrMalformed)
		}
		end, left = r.End, left-n
	}
	if left > 0 {
		return fmt.Errorf("ranges of %d messages, want %d: %w", uint64(messages)-left, messages, ErrMalformed)
	}
	return nil
}

func (i *Inventory) check() error {
	if _, err := i.Identity(); err != nil {
		return err
	}
	if _, err := i.Partition.Start(); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	for n := range i.Items {
		if err := i.Items[n].Check(); err != nil {
			return fmt.Errorf("item %d (%s %q): %w", n, i.Items[n].Place, i.Items[n].Path, err)
		}
		if i.Items[n].Needs() > i.Version {
			return fmt.Errorf("item %d (%s %q): a target in version %d: %w", n, i.Items[n].Place, i.Items[n].Path, i.Version, ErrMalformed)
		}
	}
	return nil
}

// Check says what in an item contradicts itself. The error is ErrMalformed.
func (i *Item) Check() error {
	switch i.State {
	case StateOpen, StateSealing, StateSealed, StateTorn, StateSegment, StateShipped:
	default:
		return fmt.Errorf("state %q: %w", i.State, ErrMalformed)
	}
	if i.Bytes < 0 || i.Messages < 0 {
		return fmt.Errorf("%d bytes, %d messages: %w", i.Bytes, i.Messages, ErrMalformed)
	}
	if i.At != "" && (!fs.ValidPath(i.At) || !plainText(i.At)) {
		return fmt.Errorf("at %q: %w", i.At, ErrMalformed)
	}
	for n, r := range i.Ranges {
		if r.First == 0 || r.Last < r.First || r.Last == math.MaxUint64 {
			return fmt.Errorf("range %d of sequences %d to %d: %w", n, r.First, r.Last, ErrMalformed)
		}
	}
	if i.Manifest != nil {
		return i.Manifest.Check()
	}
	return nil
}
