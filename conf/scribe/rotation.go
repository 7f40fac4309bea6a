package scribe

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// A Rotation says when a file is rotated.
type Rotation struct {
	Kind  RotationKind
	Every time.Duration // for RotateEvery
}

// RotationKind is what a rotation goes by.
type RotationKind int

// The kinds of rotation.
const (
	RotateNever  RotationKind = iota
	RotateHourly              // when the hour changes
	RotateDaily               // when the day changes
	RotateEvery               // so long after the file was opened
)

var seconds = map[string]int64{"": 1, "s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}

// rotation: Scribe takes what it does not know for never, with a line in its
// log, and then files grow without end where somebody meant them to rotate.
func rotation(text string) (Rotation, *finding) {
	switch text {
	case "never":
		return Rotation{}, nil
	case "hourly":
		return Rotation{Kind: RotateHourly}, nil
	case "daily":
		return Rotation{Kind: RotateDaily}, nil
	}
	unit := strings.TrimLeft(text, "0123456789")
	n, err := strconv.ParseInt(text[:len(text)-len(unit)], 10, 64)
	each := seconds[unit]
	if err != nil || n == 0 || each == 0 || n > math.MaxInt64/int64(time.Second)/each {
		f := failure(quoted(text)+" is no time to rotate at, and never to Scribe",
			"write hourly, daily, never, or a number and one of s, m, h, d and w, such as 15m")
		return Rotation{}, &f
	}
	return Rotation{RotateEvery, time.Duration(n*each) * time.Second}, nil
}
