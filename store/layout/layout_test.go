package layout

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"twinscribe/store/catalog"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Skip(err) // no time zones on this machine
	}
	return l
}

func utc(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestNamesAreScribes(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	kolkata := zone(t, "Asia/Kolkata")
	for _, c := range []struct {
		name      string
		kind      Kind
		location  *time.Location
		begun     string // UTC
		partition catalog.Partition
		first     string
	}{
		{"never: no date", Never, berlin, "2026-11-28 10:07:00", "dt=2026-11-28/hr=10", "logs/web/web_00000"},
		{"daily: the local date", Daily, berlin, "2026-11-28 23:30:00", "dt=2026-11-28/hr=23", "logs/web/web-2026-11-29_00000"},
		{"hourly: the day's first number is the local hour", Hourly, berlin, "2026-11-28 09:07:00", "dt=2026-11-28/hr=09", "logs/web/web-2026-11-28_00010"},
		{"every: dated, from 0", Every, berlin, "2026-11-28 09:07:00", "dt=2026-11-28/hr=09", "logs/web/web-2026-11-28_00000"},
		{"an hour and a half off", Hourly, kolkata, "2026-11-28 18:45:00", "dt=2026-11-28/hr=18", "logs/web/web-2026-11-29_00000"},
		{"begun after the partition's end, for a batch that waited", Hourly, time.UTC, "2026-11-29 00:00:08", "dt=2026-11-28/hr=23", "logs/web/web-2026-11-28_00023"},
		{"a segment that was begun before the partition", Hourly, time.UTC, "2026-11-28 22:50:00", "dt=2026-11-28/hr=23", "logs/web/web-2026-11-28_00023"},
		{"summer time begins: 2 o'clock is 3", Hourly, berlin, "2026-03-29 01:30:00", "dt=2026-03-29/hr=01", "logs/web/web-2026-03-29_00003"},
		{"summer time ends: first 2 o'clock", Hourly, berlin, "2026-10-25 00:30:00", "dt=2026-10-25/hr=00", "logs/web/web-2026-10-25_00002"},
		{"summer time ends: second 2 o'clock", Hourly, berlin, "2026-10-25 01:30:00", "dt=2026-10-25/hr=01", "logs/web/web-2026-10-25_00002"},
	} {
		l := &Layout{Folder: "logs/web", Base: "web", Link: "web_current", Rotate: Rotation{Kind: c.kind, Every: time.Hour}, Location: c.location}
		if err := l.Check(); err != nil {
			t.Fatal(err)
		}
		target := l.Target(catalog.Name{Time: utc(c.begun)}, c.partition)
		if got := target.Path(target.First); got != c.first || target.Link != "web_current" || target.Check() != nil {
			t.Errorf("%s: %s, want %s", c.name, got, c.first)
		}
	}
}

func TestABadLayoutIsRefused(t *testing.T) {
	for _, l := range []Layout{
		{Folder: "web"},
		{Folder: "../web", Base: "web"},
		{Folder: "/web", Base: "web"},
		{Folder: "", Base: "web"},
		{Folder: "_twinscribe/web", Base: "web"},
		{Folder: "web", Base: "a/b"},
		{Folder: "web", Base: ".."},
		{Folder: "web", Base: "web\x00"},
		{Folder: "web", Base: "we\xffb"},
		{Folder: "web", Base: "web", Link: "web_00001"},
		{Folder: "web", Base: "web", Link: "a/b"},
		{Folder: "web", Base: "web", Rotate: Rotation{Kind: Every}},
		{Folder: "web", Base: "web", Rotate: Rotation{Kind: Daily, Hour: 24}},
		{Folder: "web", Base: "web", Rotate: Rotation{Kind: Hourly, Minute: 60}},
		{Folder: "web", Base: "web", Rotate: Rotation{Kind: 9}},
	} {
		if l.Check() == nil {
			t.Errorf("%+v passes", l)
		}
	}
	if err := (&Layout{Folder: ".", Base: "web"}).Check(); err != nil {
		t.Error(err)
	}
}

func TestFilesAreReplacedByTheClockOfTheWall(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	daily, hourly, every := Rotation{Kind: Daily, Hour: 1, Minute: 15}, Rotation{Kind: Hourly, Minute: 15}, Rotation{Kind: Every, Every: 10 * time.Minute}
	for _, c := range []struct {
		name       string
		rotate     Rotation
		begun, now string // UTC
		want       bool
	}{
		{"never", Rotation{}, "2026-01-01 00:00:00", "2026-12-01 00:00:00", false},
		{"every: before", every, "2026-11-28 10:00:00", "2026-11-28 10:09:59", false},
		{"every: at", every, "2026-11-28 10:00:00", "2026-11-28 10:10:00", true},
		{"hourly: the same hour", hourly, "2026-11-28 10:00:00", "2026-11-28 10:59:59", false},
		{"hourly: another hour, before the minute", hourly, "2026-11-28 10:59:00", "2026-11-28 11:14:59", false},
		{"hourly: at the minute", hourly, "2026-11-28 10:59:00", "2026-11-28 11:15:00", true},
		{"hourly: the same hour of another day", hourly, "2026-11-28 10:20:00", "2026-11-29 10:16:00", true},
		{"daily: the same local day", daily, "2026-11-27 23:30:00", "2026-11-28 22:59:00", false},
		{"daily: another local day, before the time", daily, "2026-11-28 22:30:00", "2026-11-29 00:14:00", false},
		{"daily: at the time", daily, "2026-11-28 22:30:00", "2026-11-29 00:15:00", true},
		{"daily: a later hour, an earlier minute: Scribe would wait", daily, "2026-11-28 22:30:00", "2026-11-29 01:05:00", true},
		{"summer time begins: 02:20 is never", Rotation{Kind: Daily, Hour: 2, Minute: 20}, "2026-03-28 22:30:00", "2026-03-29 01:00:00", true},
		{"summer time ends: the hour comes again", hourly, "2026-10-25 00:30:00", "2026-10-25 01:30:00", false},
		{"summer time ends: the hour after it", hourly, "2026-10-25 00:30:00", "2026-10-25 02:15:00", true},
		{"a clock that was set back", daily, "2026-11-28 22:30:00", "2026-11-27 20:00:00", false},
	} {
		l := &Layout{Folder: "web", Base: "web", Rotate: c.rotate, Location: berlin}
		if got := l.Due(utc(c.begun), utc(c.now)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// scribeDue is the original's rule, as it compares.
func scribeDue(r Rotation, begun, now time.Time) bool {
	switch r.Kind {
	case Daily:
		return begun.Day() != now.Day() && now.Hour() >= r.Hour && now.Minute() >= r.Minute
	case Hourly:
		return begun.Hour() != now.Hour() && now.Minute() >= r.Minute
	case Every:
		return now.Sub(begun) >= r.Every
	case Never:
	}
	return false
}

func TestNoFileIsReplacedLaterThanByScribe(t *testing.T) {
	zones := []*time.Location{zone(t, "Europe/Berlin"), zone(t, "Asia/Kolkata"), zone(t, "America/St_Johns"), time.UTC}
	rapid.Check(t, func(r *rapid.T) {
		l := &Layout{Location: rapid.SampledFrom(zones).Draw(r, "zone"), Rotate: Rotation{
			Kind: rapid.SampledFrom([]Kind{Never, Hourly, Daily, Every}).Draw(r, "kind"), Hour: rapid.IntRange(0, 23).Draw(r, "hour"),
			Minute: rapid.IntRange(0, 59).Draw(r, "minute"), Every: time.Duration(rapid.IntRange(1, 1e6).Draw(r, "every")) * time.Second}}
		begun := time.Unix(rapid.Int64Range(1.7e9, 1.8e9).Draw(r, "begun"), 0)
		now := begun.Add(time.Duration(rapid.IntRange(1, 90*24*3600).Draw(r, "for")) * time.Second)
		if scribeDue(l.Rotate, begun.In(l.Location), now.In(l.Location)) && !l.Due(begun, now) {
			r.Fatalf("%+v: Scribe replaces a file of %v at %v", l.Rotate, begun, now)
		}
	})
}
