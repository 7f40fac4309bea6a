// Package layout gives sealed files the names that the readers of a Scribe
// fleet look for: <folder>/<base>[-YYYY-MM-DD]_NNNNN and a file <base>_current.
// It says what those names are (Layout), keeps everything else of ours out of
// the way of those readers (Engine), and gives a file its name so that, whoever
// else writes there and whenever the process ends, no file is replaced, none
// taken for another one, and none lost sight of (Seal).
//
// It leaves to others: what is in the files and when they are sealed
// (store/files, store/repair, store/ship), where manifests say that they lie
// (store/catalog).
package layout

import (
	"fmt"
	"time"

	"twinscribe/store/catalog"
)

// A Layout says how the sealed files of one chain are named, and when a file is
// replaced beyond what its size and the partition's edge ask for.
type Layout struct {
	Folder   string // below the cluster's root, with slashes: Scribe's file_path, with the category's folder where it has one
	Base     string // base_filename
	Link     string // name of the file that holds the newest one's name, as <base>_current; empty: none
	Rotate   Rotation
	Location *time.Location // of dates and times in names and of Rotate; time.Local
}

// A Rotation is Scribe's rotate_period. The zero Rotation is never.
type Rotation struct {
	Kind   Kind
	Hour   int           // Daily: not before this hour of the day
	Minute int           // Daily, Hourly: not before this minute of the hour
	Every  time.Duration // Every
}

// A Kind is what a rotation goes by.
type Kind int

// The kinds of rotation. All but Never put the date into the names.
const (
	Never  Kind = iota
	Hourly      // once the hour is another one, at the minute; the day's first number is the hour
	Daily       // once the day is another one, at hour and minute
	Every       // so long after the file was begun
)

// Check says what is wrong with a layout.
func (l *Layout) Check() error {
	r := l.Rotate
	if r.Kind < Never || r.Kind > Every || r.Hour < 0 || r.Hour > 23 || r.Minute < 0 || r.Minute > 59 || r.Kind == Every && r.Every <= 0 {
		return fmt.Errorf("rotation %+v: want an hour of the day, a minute of the hour and a positive time", r)
	}
	t := l.at(time.Unix(0, 0))
	return t.Check()
}

func (l *Layout) location() *time.Location {
	if l.Location != nil {
		return l.Location
	}
	return time.Local
}

// Target is the name of the file that was begun, or made, under one of our
// names in a partition. It depends on nothing else, so whoever seals the file
// finds the same one.
func (l *Layout) Target(n catalog.Name, p catalog.Partition) *catalog.Target {
	// A batch that was tried for long goes into a partition that is over: the
	// date is that of the messages.
	at := n.Time
	if start, err := p.Start(); err == nil && at.Before(start) {
		at = start
	}
	if end, err := p.End(); err == nil && !at.Before(end) {
		at = end.Add(-time.Nanosecond)
	}
	return l.at(at)
}

func (l *Layout) at(when time.Time) *catalog.Target {
	local := when.In(l.location())
	t := &catalog.Target{Folder: l.Folder, Stem: l.Base, Link: l.Link}
	if l.Rotate.Kind != Never {
		t.Stem += local.Format("-2006-01-02")
	}
	if l.Rotate.Kind == Hourly {
		t.First = uint32(local.Hour())
	}
	return t
}

// Due says whether a file that was begun at one time is to be replaced at
// another, both by the wall clock. It is never later than Scribe, whose rules
// compare only the number of the day or the hour, and hour and minute each for
// itself.
func (l *Layout) Due(begun, now time.Time) bool {
	r := l.Rotate
	b, n := begun.In(l.location()), now.In(l.location())
	sameDay := b.Year() == n.Year() && b.YearDay() == n.YearDay()
	switch r.Kind {
	case Daily:
		return !sameDay && n.After(b) && n.Hour()*60+n.Minute() >= r.Hour*60+r.Minute
	case Hourly:
		return (!sameDay || b.Hour() != n.Hour()) && n.After(b) && n.Minute() >= r.Minute
	case Every:
		return now.Sub(begun) >= r.Every
	case Never:
	}
	return false
}
