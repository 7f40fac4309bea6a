package catalog

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// EngineFolder is the name of the folder below a cluster's root that holds
// everything of ours where data files have names of somebody else's choosing:
// open files, manifests, inventories, member files. Hadoop's readers skip it.
const EngineFolder = "_twinscribe"

// A Target says which name a sealed file takes in place of its own: one of the
// numbered names Stem_00000, Stem_00001, ... in a folder that other programs
// read, and perhaps write. The number is found when the file is sealed.
type Target struct {
	Folder string `json:"folder"` // below the cluster's root, with slashes; "." is the root itself
	Stem   string `json:"stem"`   // of the name, up to the number: "web-2026-11-28"
	// First is the number of the first file; later ones take the highest there
	// is, and one more.
	First uint32 `json:"first,omitempty"`
	// Link is the name of a small file in the folder that holds the name of the
	// newest one; empty: none.
	Link string `json:"link,omitempty"`
}

// MaxNumber is the highest number of a target's names.
const MaxNumber = 1<<32 - 2

// Base is the target's name of a number, without its folder.
func (t *Target) Base(number uint32) string { return fmt.Sprintf("%s_%05d", t.Stem, number) }

// Path is the target's name of a number, below the cluster's root.
func (t *Target) Path(number uint32) string { return path.Join(t.Folder, t.Base(number)) }

// Number reads the number of a name in the target's folder; false for a name
// that is none of the target's. Other programs may pad a number otherwise.
func (t *Target) Number(base string) (uint32, bool) {
	digits, ok := strings.CutPrefix(base, t.Stem+"_")
	if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n > MaxNumber {
		return 0, false
	}
	return uint32(n), true
}

// NumberOf reads the number of a whole path, in the one spelling that Path has.
func (t *Target) NumberOf(p string) (uint32, bool) {
	n, ok := t.Number(path.Base(p))
	return n, ok && t.Path(n) == p
}

// Check says what is wrong with a target. The error is ErrMalformed.
func (t *Target) Check() error {
	if !fs.ValidPath(t.Folder) || !plainText(t.Folder) || slices.Contains(strings.Split(t.Folder, "/"), EngineFolder) {
		return fmt.Errorf("target in folder %q: want a path below the root, outside of %s: %w", t.Folder, EngineFolder, ErrMalformed)
	}
	if err := checkBase(t.Stem); err != nil {
		return fmt.Errorf("target named %q: %w", t.Stem, err)
	}
	if t.Link != "" {
		if err := checkBase(t.Link); err != nil {
			return fmt.Errorf("target's link %q: %w", t.Link, err)
		}
		if _, ok := t.Number(t.Link); ok {
			return fmt.Errorf("target's link %q is a name of its files: %w", t.Link, ErrMalformed)
		}
	}
	if t.First > MaxNumber {
		return fmt.Errorf("target's first number %d: %w", t.First, ErrMalformed)
	}
	return nil
}

func checkBase(s string) error {
	if s == "" || s == "." || s == ".." || strings.Contains(s, "/") || !plainText(s) || s == EngineFolder {
		return fmt.Errorf("want one element of a path: %w", ErrMalformed)
	}
	return nil
}

func plainText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// version is the version of the manifest: older programs need not refuse one
// that has nothing new in it.
func (m *Manifest) version() int {
	if m.Target != nil || m.At != "" {
		return TargetVersion
	}
	return Version
}

// SetTarget makes the file one that takes a target's name, and at the one it
// takes; empty: it is not found yet. A nil target means a name of our own.
func (m *Manifest) SetTarget(t *Target, at string) {
	m.Target, m.At = t, at
	m.Version = m.version()
}

// checkTarget is the part of Manifest.Check about its target.
func (m *Manifest) checkTarget() error {
	if m.Version < m.version() {
		return fmt.Errorf("a target in version %d: %w", m.Version, ErrMalformed)
	}
	if m.Target == nil {
		if m.At != "" {
			return fmt.Errorf("at %q without a target: %w", m.At, ErrMalformed)
		}
		return nil
	}
	if err := m.Target.Check(); err != nil {
		return err
	}
	if _, ok := m.Target.NumberOf(m.At); m.At != "" && !ok {
		return fmt.Errorf("at %q, want %s and a number: %w", m.At, path.Join(m.Target.Folder, m.Target.Stem)+"_", ErrMalformed)
	}
	return nil
}

// Needs is the lowest version that can tell of the item.
func (i *Item) Needs() int {
	if i.At != "" || i.Manifest != nil && i.Manifest.version() > Version {
		return TargetVersion
	}
	return Version
}
