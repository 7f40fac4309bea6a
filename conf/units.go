package conf

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written with a unit: 64MiB, 50GiB, 4096.
type Size int64

// Units of sizes.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

var units = []struct {
	name  string
	bytes Size
}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}

// String is the size with the largest unit that divides it: ParseSize reads it back.
func (s Size) String() string {
	for _, u := range units[:4] {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

const wantSize = "want a size such as 64MiB, 50GiB or 4096"

// ParseSize reads a whole number of bytes with B, KiB, MiB, GiB or TiB behind
// it, or nothing.
func ParseSize(text string) (Size, error) {
	digits := strings.TrimLeft(text, "0123456789")
	number, unit := text[:len(text)-len(digits)], digits
	if number == "" {
		return 0, fmt.Errorf("%q is no size: %s", short(text), wantSize)
	}
	factor := Size(1)
	if unit != "" {
		factor = 0
		for _, u := range units {
			if u.name == unit {
				factor = u.bytes
			}
		}
	}
	if factor == 0 {
		return 0, fmt.Errorf("%q is no size: %s", short(text), remedyForUnit(number, unit))
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/int64(factor) {
		return 0, fmt.Errorf("%q is more than this program can count", short(text))
	}
	return Size(n) * factor, nil
}

// remedyForUnit says what would be right where a unit is not.
func remedyForUnit(number, unit string) string {
	unit = strings.TrimSpace(unit)
	for _, u := range units {
		letter := u.name[:1]
		for _, meant := range []string{u.name, letter + "B", letter} {
			if strings.EqualFold(unit, meant) {
				return "write " + number + u.name + "; the units are KiB, MiB, GiB and TiB, powers of two"
			}
		}
	}
	return wantSize
}

const wantDuration = "want a duration with its unit, such as 500ms, 2s or 10m"

// parseDuration reads what time.ParseDuration reads, if it is not negative.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err == nil && d >= 0:
		return d, nil
	case err == nil:
		return 0, fmt.Errorf("%q is negative: %s", short(text), wantDuration)
	case numeric(text):
		return 0, fmt.Errorf("%q has no unit: write %ss if seconds are meant", short(text), short(text))
	case durationForm.MatchString(text):
		return 0, fmt.Errorf("%q is more than this program can count", short(text))
	}
	return 0, fmt.Errorf("%q is no duration: %s", short(text), remedyForDuration(text))
}

var (
	durationForm = regexp.MustCompile(`^[0-9]{1,40}(ns|us|ms|s|m|h)$`)
	wordedForm   = regexp.MustCompile(`^([0-9]{1,9}) ?([A-Za-z]{1,12})$`)
)

// remedyForDuration says what would be right where a unit is written otherwise.
func remedyForDuration(text string) string {
	m := wordedForm.FindStringSubmatch(text)
	if m == nil {
		return wantDuration
	}
	n, _ := strconv.Atoi(m[1])
	for _, u := range []struct {
		words, unit string
		factor      int
	}{
		{"ms msec msecs millisecond milliseconds millis", "ms", 1},
		{"s sec secs second seconds", "s", 1},
		{"m min mins minute minutes", "m", 1},
		{"h hr hrs hour hours", "h", 1},
		{"d day days", "h", 24},
		{"w week weeks", "h", 7 * 24},
	} {
		if slices.Contains(strings.Fields(u.words), strings.ToLower(m[2])) {
			return fmt.Sprintf("write %d%s; the units are ms, s, m and h", n*u.factor, u.unit)
		}
	}
	return wantDuration
}

func numeric(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return err == nil
}
