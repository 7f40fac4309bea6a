package catalog

import (
	"path"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var ag1 = Identity{Aggregator: "ag1", Epoch: 42, Start: 0x7f3c91d2}

func TestNamesAreSpelledAsTheFormatSays(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 7, 59, 0, time.FixedZone("", 3600))
	n := Name{Time: at, Identity: ag1, Number: 17}
	shipped := Name{Time: at, Identity: ag1, Shipped: true, Segment: 3, Number: 12}
	for _, c := range []struct{ got, want string }{
		{n.Sealed(), "20261122T0907Z-ag1-0000002a.7f3c91d2-00017.log"},
		{n.Open(), "_20261122T0907Z-ag1-0000002a.7f3c91d2-00017.log.open"},
		{n.Manifest(), "_20261122T0907Z-ag1-0000002a.7f3c91d2-00017.log.json"},
		{shipped.Sealed(), "20261122T0907Z-ag1-0000002a.7f3c91d2-s00003.00012.log"},
		{MemberPath(ag1), "_members/ag1.7f3c91d2.json"},
		{InventoryPath(ag1, "dt=2026-11-22/hr=10"), "_inventory/dt=2026-11-22/hr=10/ag1.7f3c91d2.json"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

var anyIdentity = rapid.Custom(func(t *rapid.T) Identity {
	return Identity{
		Aggregator: rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,40}`).Draw(t, "aggregator"),
		Epoch:      rapid.Uint32().Draw(t, "epoch"),
		Start:      rapid.Uint32().Draw(t, "start"),
	}
})

func TestNamesComeBackFromTheirSpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Name{
			Time:     time.Unix(rapid.Int64Range(0, 1<<36).Draw(t, "minute")/60*60, 0).UTC(),
			Identity: anyIdentity.Draw(t, "identity"),
			Number:   rapid.Uint32().Draw(t, "number"),
			Shipped:  rapid.Bool().Draw(t, "shipped"),
		}
		if n.Shipped {
			n.Segment = rapid.Uint32().Draw(t, "segment")
		}
		for form, base := range map[Form]string{FormSealed: n.Sealed(), FormOpen: n.Open(), FormManifest: n.Manifest()} {
			got, gotForm := ParseName(base)
			if gotForm != form || !got.Time.Equal(n.Time) {
				t.Fatalf("%s came back as %+v, form %d", base, got, gotForm)
			}
			got.Time = n.Time
			if got != n {
				t.Fatalf("%s came back as %+v, want %+v", base, got, n)
			}
		}
		back, err := ParseIdentity(n.Identity.String())
		if err != nil || back != n.Identity {
			t.Fatalf("identity %s came back as %+v, %v", n.Identity, back, err)
		}
	})
}

var notOurNames = []string{
	"", "_", ".log", "_.log.open", "part-00000.log", "_SUCCESS", "-.log", "x-y-z.log",
	"20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log.gz",
	"20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log.open",   // no underscore
	"20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log.json",   // no underscore
	"_20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log",       // underscore
	"20261122T1007Z-ag1-0000002a.7f3c91d2-17.log",           // not the spelling of 17
	"20261122T1007Z-ag1-0000002a.7f3c91d2-000017.log",       // nor this
	"20261122T1007Z-ag1-0000002a.7F3C91D2-00017.log",        // upper case
	"20261122T1007Z-ag1-0000002a.7f3c91d2-+0017.log",        //
	"20261122T1007Z-ag1-0000002a.7f3c91d2-99999999999.log",  // too large
	"20261122T1007Z-ag1-0000002a.7f3c91d2-s3.12.log",        //
	"20261122T1007Z-ag1-0000002a.7f3c91d2-00003.00012.log",  // no s
	"20261122T1007Z-ag1-0000002a.7f3c91d2-ss0003.00012.log", //
	"20261122T1007Z--0000002a.7f3c91d2-00017.log",           // no aggregator
	"20261122T1007Z-_ag-0000002a.7f3c91d2-00017.log",        //
	"20261122T1007Z-a g-0000002a.7f3c91d2-00017.log",        //
	"20261122T1007Z-a\x00-0000002a.7f3c91d2-00017.log",      //
	"20261122T1007Z-../ag-0000002a.7f3c91d2-00017.log",      //
	"20261122T1007Z-a/../../b-0000002a.7f3c91d2-00017.log",  //
	"20261122T1007Z-ag1-2a.7f3c91d2-00017.log",              //
	"20261122T1007Z-ag1-0000002a-00017.log",                 //
	"20261322T1007Z-ag1-0000002a.7f3c91d2-00017.log",        // month 13
	"2026-11-22-ag1-0000002a.7f3c91d2-00017.log",            //
}

func TestForeignNamesAreNotOurs(t *testing.T) {
	for _, base := range notOurNames {
		if n, form := ParseName(base); form != FormOther || n != (Name{}) {
			t.Errorf("%q counts as %+v, form %d", base, n, form)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range notOurNames {
		f.Add(s)
	}
	n := Name{Time: time.Unix(0, 0), Identity: ag1, Number: 1}
	f.Add(n.Sealed())
	f.Add(n.Open())
	f.Add(n.Manifest())
	f.Fuzz(func(t *testing.T, base string) {
		n, form := ParseName(base)
		spelled := map[Form]string{FormOther: base, FormSealed: n.Sealed(), FormOpen: n.Open(), FormManifest: n.Manifest()}[form]
		if spelled != base {
			t.Fatalf("%q counts as form %d of %+v, which is spelled %q", base, form, n, spelled)
		}
		if form != FormOther && (path.Base(base) != base || strings.ContainsAny(base, "/\x00")) {
			t.Fatalf("%q counts as a name of ours and is no base name", base)
		}
	})
}

func TestAggregatorIDsThatAreRefused(t *testing.T) {
	for _, id := range []string{"", "-a", ".a", "_a", "a/b", "a b", "ä", "a\x00", strings.Repeat("a", MaxAggregator+1)} {
		if CheckAggregator(id) == nil {
			t.Errorf("aggregator id %q is taken", id)
		}
	}
	for _, id := range []string{"a", "9", "ag1", "web-01.example.org", "a_b", strings.Repeat("a", MaxAggregator)} {
		if err := CheckAggregator(id); err != nil {
			t.Errorf("aggregator id %q: %v", id, err)
		}
	}
}
