package scribefile

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestACategoryIsItsFileNameWhereItCanBe(t *testing.T) {
	long := strings.Repeat("x", 233)
	for category, want := range map[string]string{
		"web":         "web",
		"two words":   "two words",
		".hidden":     ".hidden",
		"_underscore": "_underscore",
		"Test":        "Test",
		"a:b\x01\xff": "a:b\x01\xff",
		"50%":         "50%",
		"100%25":      "100%25", // nobody else's encoded name: a name with a percent sign is its own
		"...":         "...",
		long:          long,

		"":          "%",
		".":         "%2E",
		"..":        "%2E.",
		"../esc":    "%2E.%2Fesc",
		"A/b":       "A%2Fb",
		"/":         "%2F",
		"nul\x00":   "nul%00",
		"%":         "%25",
		"A%2Fb":     "A%252Fb", // looks like the name of A/b
		"A%252Fb":   "A%25252Fb",
		long + "x":  "",
		"%2E":       "%252E",
		"nul%00":    "nul%2500",
		"%5Fleader": "%5Fleader",
	} {
		got := FileName(category)
		if want == "" {
			want = got // hashed
			if len(got) > 128 {
				t.Errorf("%.20q...: %d bytes", category, len(got))
			}
		}
		if got != want {
			t.Errorf("%.40q: %q, want %q", category, got, want)
		}
	}
}

// checkNames holds two categories' names against what FileName promises.
func checkNames(t interface{ Errorf(string, ...any) }, a, b string) {
	for _, category := range []string{a, b} {
		name := FileName(category)
		full := numbered(name+"-2006-01-02", maxNumber)
		if filepath.Dir(filepath.Join("/logs", name, full)) != "/logs/"+name || len(full) > 255 || !portable(name) {
			t.Errorf("category %q has the name %q", category, name)
		}
	}
	if a != b && FileName(a) == FileName(b) {
		t.Errorf("categories %q and %q share the name %q", a, b, FileName(a))
	}
}

func TestTwoCategoriesNeverShareAName(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := rapid.StringOfN(rapid.SampledFrom([]rune("/.%_~25EFa\x00")), 0, 12, -1).Draw(rt, "a")
		b := rapid.OneOf(
			rapid.StringOfN(rapid.SampledFrom([]rune("/.%_~25EFa\x00")), 0, 12, -1),
			rapid.Just(FileName(a)),
			rapid.Just(FileName(FileName(a))),
		).Draw(rt, "b")
		checkNames(rt, a, b)
	})
	hashed := strings.Repeat("y", 300)
	checkNames(t, hashed, FileName(hashed))
	checkNames(t, FileName(hashed), FileName(FileName(hashed)))
}

func FuzzFileName(f *testing.F) {
	f.Add("web", "../web")
	f.Add("A/b", "A%2Fb")
	f.Add(strings.Repeat("long", 80), FileName(strings.Repeat("long", 80)))
	f.Fuzz(func(t *testing.T, a, b string) {
		checkNames(t, a, b)
		checkNames(t, a, FileName(a))
	})
}

func TestNumbersAreReadBehindTheLastUnderscore(t *testing.T) {
	for _, c := range []struct {
		name, stem string
		number     int64
		ok         bool
	}{
		{"web_00000", "web", 0, true},
		{"web_00012", "web", 12, true},
		{"web_123456", "web", 123456, true},
		{"web_00003.gz", "web", 3, true},
		{"web-2026-11-28_00010", "web-2026-11-28", 10, true},
		{"web-2026-11-28_00010", "web", 0, false},
		{"web_2_00001", "web", 0, false},
		{"web_2_00001", "web_2", 1, true},
		{"web_current", "web", 0, false},
		{"web_", "web", 0, false},
		{"web", "web", 0, false},
		{"xweb_00001", "web", 0, false},
		{"web_-0001", "web", 0, false},
		{"web_ 0001", "web", 0, false},
		{"web_2147483647", "web", maxNumber, true},
		{"web_20261128103000", "web", 0, false}, // no number of the original's
		{"web_99999999999999999999", "web", 0, false},
	} {
		if n, ok := numberOf(c.name, c.stem); ok != c.ok || ok && n != c.number {
			t.Errorf("%s of %s: %d, %v; want %d, %v", c.name, c.stem, n, ok, c.number, c.ok)
		}
	}
}

func FuzzNumberOf(f *testing.F) {
	f.Add("web_00003.gz", "web")
	f.Add("web_2_99999999999", "web_2")
	f.Fuzz(func(t *testing.T, name, stem string) {
		n, ok := numberOf(name, stem)
		if ok && (n < 0 || n > maxNumber || !strings.HasPrefix(name, stem+"_")) {
			t.Errorf("%q of %q: %d", name, stem, n)
		}
		if again, ok := numberOf(numbered(stem, n), stem); !ok || again != n {
			t.Errorf("%q is read as %d, %v", numbered(stem, n), again, ok)
		}
	})
}

func TestNamesCarryTheLocalDateIfTheyRotateByTime(t *testing.T) {
	honolulu := time.FixedZone("HST", -10*3600)
	at := time.Date(2026, 11, 28, 5, 0, 0, 0, time.UTC).In(honolulu)
	for rotate, want := range map[Rotation]string{
		Never: "web_00007", Hourly: "web-2026-11-27_00007", Daily: "web-2026-11-27_00007", Every: "web-2026-11-27_00007",
	} {
		s := Spec{Rotate: rotate}
		if got := numbered(s.stem("web", at), 7); got != want {
			t.Errorf("rotation %d: %s, want %s", rotate, got, want)
		}
	}
}

func TestAFileIsDueBySizeAndLocalClock(t *testing.T) {
	zone := func(name string) *time.Location {
		l, err := time.LoadLocation(name)
		if err != nil {
			t.Skip(err)
		}
		return l
	}
	berlin, kathmandu := zone("Europe/Berlin"), zone("Asia/Kathmandu")
	daily := Spec{Rotate: Daily, RotateHour: 1, RotateMinute: 15}
	hourly := Spec{Rotate: Hourly, RotateMinute: 15}
	for _, c := range []struct {
		what       string
		spec       Spec
		zone       *time.Location
		begun, now string // UTC
		due        bool
	}{
		{"daily, the day before the time", daily, time.UTC, "2026-11-27 12:00", "2026-11-28 01:14", false},
		{"daily, at the time", daily, time.UTC, "2026-11-27 12:00", "2026-11-28 01:15", true},
		{"daily, the minute counts in later hours too", daily, time.UTC, "2026-11-27 12:00", "2026-11-28 02:10", false},
		{"daily, once a day", daily, time.UTC, "2026-11-28 01:15", "2026-11-28 23:59", false},
		{"daily, opened after midnight: not before the next day", daily, time.UTC, "2026-11-28 00:05", "2026-11-28 01:15", false},
		{"daily, the same day of the next month", daily, time.UTC, "2026-10-28 12:00", "2026-11-28 12:15", true},
		{"daily, by local time", daily, kathmandu, "2026-11-27 12:00", "2026-11-27 19:30", true},
		{"daily, by local time, before", daily, kathmandu, "2026-11-27 12:00", "2026-11-27 19:29", false},
		{"hourly, before the minute", hourly, time.UTC, "2026-11-28 10:59", "2026-11-28 11:14", false},
		{"hourly, at the minute", hourly, time.UTC, "2026-11-28 10:59", "2026-11-28 11:15", true},
		{"hourly, once an hour", hourly, time.UTC, "2026-11-28 11:15", "2026-11-28 11:59", false},
		{"hourly, the same hour a day later", hourly, time.UTC, "2026-11-27 11:20", "2026-11-28 11:20", true},
		{"hourly, in a zone with quarters of an hour", hourly, kathmandu, "2026-11-28 10:00", "2026-11-28 10:30", true}, // 15:45 and 16:15
		{"hourly, the hour that the clock leaves out", hourly, berlin, "2026-03-29 00:30", "2026-03-29 01:15", true},    // 01:30, 03:15
		{"hourly, the hour that the clock shows twice", hourly, berlin, "2026-10-25 00:20", "2026-10-25 01:20", false},  // 02:20 both
		{"hourly, after it", hourly, berlin, "2026-10-25 00:20", "2026-10-25 02:15", true},
		{"daily, a day of 25 hours", daily, berlin, "2026-10-24 23:15", "2026-10-25 23:14", false}, // 01:15 to 00:14 of the next
		{"daily, after it", daily, berlin, "2026-10-24 23:15", "2026-10-26 00:15", true},
		{"every, before", Spec{Rotate: Every, Every: time.Hour}, time.UTC, "2026-11-28 10:10", "2026-11-28 11:09", false},
		{"every, then", Spec{Rotate: Every, Every: time.Hour}, time.UTC, "2026-11-28 10:10", "2026-11-28 11:10", true},
		{"every, the clock was set back", Spec{Rotate: Every, Every: time.Hour}, time.UTC, "2026-11-28 10:10", "2026-11-28 09:10", false},
		{"never", Spec{}, time.UTC, "2020-01-01 00:00", "2026-11-28 11:10", false},
	} {
		at := func(s string) time.Time {
			u, err := time.Parse("2006-01-02 15:04", s)
			if err != nil {
				t.Fatal(err)
			}
			return u.In(c.zone)
		}
		if got := c.spec.due(1, at(c.begun), at(c.now)); got != c.due {
			t.Errorf("%s: from %v at %v: due %v, want %v", c.what, at(c.begun), at(c.now), got, c.due)
		}
	}
	for size, want := range map[int64]bool{0: false, 1000: false, 1001: true} {
		if s := (Spec{MaxSize: 1000}); s.due(size, time.Time{}, time.Time{}) != want {
			t.Errorf("%d bytes of 1000: due %v", size, !want)
		}
	}
	if (&Spec{}).due(1<<50, time.Time{}, time.Time{}) {
		t.Error("a file without a limit is due by size")
	}
}

func TestASpecThatLeavesItsFolderIsRefused(t *testing.T) {
	r := newRig(t, Options{})
	for what, change := range map[string]func(*Spec){
		"file_path":         func(s *Spec) { s.Path = "" },
		"sub_directory":     func(s *Spec) { s.SubDirectory = "../other" },
		"base_filename":     func(s *Spec) { s.Base = "../web" },
		"base_symlink_name": func(s *Spec) { s.Symlink = "a/b" },
		"rotate_period":     func(s *Spec) { s.Rotate = Every },
	} {
		spec := webSpec()
		change(&spec)
		if _, err := r.files.Open(spec, "local"); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, base := range []string{"", ".", "..", "a\x00", strings.Repeat("x", maxBase+1)} {
		spec := webSpec()
		spec.Base = base
		if _, err := r.files.Open(spec, "local"); err == nil {
			t.Errorf("base name %q was taken", base)
		}
	}
	if got := fmt.Sprint(r.files.Stats()); got != fmt.Sprint(Stats{}) {
		t.Errorf("figures: %s", got)
	}
}
