package scribefile

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
)

// maxBase is the longest base name, in bytes: what file systems allow (255)
// less the date, an underscore and the ten digits of the largest number.
const maxBase = 255 - len("-2006-01-02_") - 10

// FileName is the name of a category's folder and the base name of its files:
// the category itself where that is the name of a file, whatever blanks and
// dots are in it, as Scribe's readers expect, and catalog.Folder of it
// otherwise. It is one element of a path, never "." or "..". Two categories
// never share a name: one that looks like another's encoded name is encoded too.
func FileName(category string) string {
	if plain(category) {
		return category
	}
	return catalog.Folder(category)
}

// plain says whether a category is its own name.
func plain(category string) bool {
	if !portable(category) || catalog.HashedFolder(category) {
		return false
	}
	other, ok := catalog.Category(category)
	return !ok || other == category || plain(other)
}

// portable says whether a file can have the name, with all that follows it.
func portable(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxBase && !strings.ContainsAny(name, "/\x00")
}

// stem is what the names of a time's files have before the underscore.
func (s *Spec) stem(base string, local time.Time) string {
	if s.Rotate == Never {
		return base
	}
	return base + local.Format("-2006-01-02")
}

// numbered is the name of a file.
func numbered(stem string, number int64) string { return fmt.Sprintf("%s_%05d", stem, number) }

// maxNumber is the largest number that the original's int holds.
const maxNumber = math.MaxInt32

// newest finds the highest number in a folder, -1 if there is none, and whether
// it is that of a file that can be appended to. A name with something behind
// the number, such as that of a file that was compressed since, counts as one
// that cannot: its number is taken.
func newest(fsys vfs.FS, folder, stem string) (number int64, appendable bool, err error) {
	entries, err := fsys.ReadDir(folder)
	if err != nil {
		return 0, false, err
	}
	number = -1
	for _, e := range entries {
		n, ok := numberOf(e.Name(), stem)
		if !ok || n < number {
			continue
		}
		file := e.Name() == numbered(stem, n) && e.Type()&^fs.ModeSymlink == 0
		appendable = file || appendable && n == number
		number = n
	}
	return number, appendable, nil
}

// numberOf reads the digits behind the last underscore.
func numberOf(name, stem string) (int64, bool) {
	rest, ok := strings.CutPrefix(name, stem+"_")
	if !ok || strings.ContainsRune(rest, '_') {
		return 0, false
	}
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	n, err := strconv.ParseInt(rest[:digits], 10, 64)
	if err != nil || n > maxNumber {
		return 0, false
	}
	return n, true
}

// due says whether a file of this size, begun at that time, is to be replaced.
// Hours and days are those of the local clock, both times in one location: an
// hour that the clock shows twice is one.
func (s *Spec) due(size int64, begun, now time.Time) bool {
	if s.MaxSize > 0 && size > s.MaxSize {
		return true
	}
	y1, m1, d1 := begun.Date()
	y2, m2, d2 := now.Date()
	day := y1 != y2 || m1 != m2 || d1 != d2
	switch s.Rotate {
	case Daily:
		return day && now.Hour() >= s.RotateHour && now.Minute() >= s.RotateMinute
	case Hourly:
		return (day || begun.Hour() != now.Hour()) && now.Minute() >= s.RotateMinute
	case Every:
		return now.Sub(begun) >= s.Every
	}
	return false
}
