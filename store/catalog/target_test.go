package catalog

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatNoTargetMayBe(t *testing.T) {
	good := Target{Folder: "logs/web", Stem: "web-2026-11-28", First: 10, Link: "web_current"}
	for name, change := range map[string]func(*Target){
		"":                       func(*Target) {},
		"the root":               func(t *Target) { t.Folder = "." },
		"no folder":              func(t *Target) { t.Folder = "" },
		"outside of the root":    func(t *Target) { t.Folder = "../logs" },
		"absolute":               func(t *Target) { t.Folder = "/logs" },
		"not clean":              func(t *Target) { t.Folder = "logs//web" },
		"in the engine's folder": func(t *Target) { t.Folder = EngineFolder + "/web" },
		"no stem":                func(t *Target) { t.Stem = "" },
		"a stem of two elements": func(t *Target) { t.Stem = "web/x" },
		"no text":                func(t *Target) { t.Stem = "web\xff" },
		"a link to itself":       func(t *Target) { t.Link = "web-2026-11-28_00010" },
		"a link elsewhere":       func(t *Target) { t.Link = "../web_current" },
		"too high":               func(t *Target) { t.First = MaxNumber + 1 },
	} {
		c := good
		change(&c)
		err := c.Check()
		if ok := name == "" || name == "the root"; (err == nil) != ok || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestANumberComesBackFromItsName(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		c := Target{Folder: rapid.SampledFrom([]string{".", "a", "a/b"}).Draw(r, "folder"), Stem: rapid.StringMatching(`[a-z0-9_-]{1,8}`).Draw(r, "stem")}
		n := rapid.Uint32Max(MaxNumber).Draw(r, "number")
		if got, ok := c.NumberOf(c.Path(n)); !ok || got != n {
			r.Fatalf("%s gives %d, %v", c.Path(n), got, ok)
		}
		other := rapid.StringMatching(`[a-z_0-9-]{0,12}`).Draw(r, "other")
		if got, ok := c.NumberOf(other); ok && c.Path(got) != other {
			r.Fatalf("%q is taken for %s", other, c.Path(got))
		}
	})
}

func TestOnlyAManifestWithATargetNeedsTheNewerVersion(t *testing.T) {
	m := func() *Manifest {
		b := NewBuilder(Head{File: "x", Identity: Identity{Aggregator: "ag1", Epoch: 1, Start: 1}, Category: "web", Partition: "dt=2026-11-28"})
		return b.Snapshot()
	}
	plain, laid := m(), m()
	target := &Target{Folder: "logs", Stem: "web"}
	laid.SetTarget(target, target.Path(3))
	for _, one := range []*Manifest{plain, laid} {
		b, err := one.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeManifest("x", b)
		if err != nil || got.At != one.At || (got.Target == nil) != (one.Target == nil) {
			t.Fatalf("%s: %+v, %v", b, got, err)
		}
	}
	if plain.Version != Version || laid.Version != TargetVersion {
		t.Errorf("versions %d and %d", plain.Version, laid.Version)
	}
	for name, change := range map[string]func(*Manifest){
		"an older version":  func(m *Manifest) { m.Version = Version },
		"at without target": func(m *Manifest) { m.Target = nil },
		"at elsewhere":      func(m *Manifest) { m.At = "logs/webb_00003" },
		"another spelling":  func(m *Manifest) { m.At = "logs/web_3" },
	} {
		bad := *laid
		change(&bad)
		if err := bad.Check(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	inv := &Inventory{Version: Version, Aggregator: "ag1", Epoch: 1, Start: "00000001", Partition: "dt=2026-11-28",
		Items: []Item{{Category: "web", Place: "n1", Path: "web/x", State: StateSealed, At: laid.At}}}
	if _, err := inv.Encode(); err == nil || !strings.Contains(err.Error(), "target") {
		t.Errorf("an inventory of version %d tells of a target: %v", Version, err)
	}
}
