package catalog

import (
	"fmt"
	"strings"
	"time"
)

// A Partition is a window of time as a folder, relative to its category:
// "dt=2026-11-22/hr=10" or "dt=2026-11-22", always UTC. Partitions of one
// period sort by time.
type Partition string

// A Period is the length of a partition.
type Period string

// The periods there are.
const (
	Hour Period = "hour"
	Day  Period = "day"
)

const (
	dayLayout  = "dt=2006-01-02"
	hourLayout = "dt=2006-01-02/hr=15"
)

// At is the partition that holds t.
func (p Period) At(t time.Time) Partition {
	if p == Day {
		return Partition(t.UTC().Format(dayLayout))
	}
	return Partition(t.UTC().Format(hourLayout))
}

// Duration is the length of the period.
func (p Period) Duration() time.Duration {
	if p == Day {
		return 24 * time.Hour
	}
	return time.Hour
}

// Period tells the period from the partition's form.
func (p Partition) Period() Period {
	if strings.Contains(string(p), "/") {
		return Hour
	}
	return Day
}

// Start is the first moment of the partition. It fails for a text that is no partition.
func (p Partition) Start() (time.Time, error) {
	layout := dayLayout
	if p.Period() == Hour {
		layout = hourLayout
	}
	t, err := time.Parse(layout, string(p))
	if err != nil || t.Format(layout) != string(p) { // "hr=5" is another folder than "hr=05"
		return time.Time{}, fmt.Errorf("partition %q: want dt=YYYY-MM-DD or dt=YYYY-MM-DD/hr=HH", string(p))
	}
	return t, nil
}

// End is the first moment after the partition.
func (p Partition) End() (time.Time, error) {
	t, err := p.Start()
	return t.Add(p.Period().Duration()), err
}

// EdgeDelay is how long after a partition's end a chain moves to the next one:
// 5 to 25 s, the same for every part of the program, spread over the chains so
// that a thousand categories change the hour without a storm.
func EdgeDelay(chain uint32) time.Duration {
	const spread = 20 * time.Second
	return 5*time.Second + time.Duration(chain*2654435761>>16)*spread/(1<<16)
}
