package catalog

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPartitionsAreInUTC(t *testing.T) {
	at := time.Date(2026, 11, 22, 0, 30, 0, 0, time.FixedZone("CET", 3600))
	if p := Hour.At(at); p != "dt=2026-11-21/hr=23" {
		t.Errorf("hour is %s", p)
	}
	if p := Day.At(at); p != "dt=2026-11-21" {
		t.Errorf("day is %s", p)
	}
}

func TestPartitionsHoldTheirTimeAndFollowOneAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(0, 1<<37).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanos"))
		period := rapid.SampledFrom([]Period{Hour, Day}).Draw(t, "period")
		p := period.At(at)
		start, err := p.Start()
		if err != nil {
			t.Fatal(err)
		}
		end, err := p.End()
		if err != nil {
			t.Fatal(err)
		}
		if at.Before(start) || !at.Before(end) || end.Sub(start) != period.Duration() {
			t.Fatalf("%s from %s to %s does not hold %s", p, start, end, at)
		}
		if p.Period() != period || period.At(start) != p || period.At(end) <= p {
			t.Fatalf("%s: period %s, at its start %s, after it %s", p, p.Period(), period.At(start), period.At(end))
		}
	})
}

func TestTextsThatAreNoPartition(t *testing.T) {
	for _, p := range []Partition{
		"", "dt=", "2026-11-22", "dt=2026-11-22/", "dt=2026-11-22/hr=", "dt=2026-11-22/hr=24", "dt=2026-11-22/hr=5",
		"dt=2026-02-29", "dt=2026-1-2", "dt=2026-11-22/hr=10/", "dt=2026-11-22/10", "dt=2026-11-22/hr=10/x",
		"../dt=2026-11-22", "dt=2026-11-22/hr=10.5", " dt=2026-11-22", "dt=2026-11-22\x00",
	} {
		if at, err := p.Start(); err == nil {
			t.Errorf("%q counts as the partition from %s on", string(p), at)
		}
	}
}

func TestChainsChangeThePartitionSpreadOver20Seconds(t *testing.T) {
	var fifths [5]int
	for chain := range uint32(1000) {
		d := EdgeDelay(chain)
		if d < 5*time.Second || d >= 25*time.Second {
			t.Fatalf("chain %d moves after %s", chain, d)
		}
		fifths[(d-5*time.Second)/(4*time.Second)]++
	}
	for i, n := range fifths {
		if n < 150 || n > 250 {
			t.Errorf("%d of 1000 chains move in fifth %d", n, i)
		}
	}
}
