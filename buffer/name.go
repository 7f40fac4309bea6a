package buffer

import (
	"fmt"
	"strconv"
	"strings"
)

// The extensions of a segment's name. What comes before stays the same.
const (
	extSegment = ".seg"
	extShipped = ".shipped"
	extDamaged = ".damaged" // a copy in quarantine
	extCopying = ".copying" // behind the name of a copy that is not whole yet
)

// segmentName is what a segment's name says: enough to read it when its header
// is gone.
type segmentName struct {
	identity Identity
	number   uint32 // within the start
	salt     uint64
}

// stem is the name without its extension.
func (n segmentName) stem() string {
	return fmt.Sprintf("%s-%08x.%016x", n.identity, n.number, n.salt)
}

// parseName reads a base name and its extension.
func parseName(base string) (n segmentName, ext string, ok bool) {
	stem := base
	for _, e := range []string{extSegment, extShipped, extDamaged} {
		if s, found := strings.CutSuffix(base, e); found {
			stem, ext = s, e
		}
	}
	at := strings.LastIndexByte(stem, '-')
	if ext == "" || at < 0 {
		return n, "", false
	}
	number, salt, ok1 := strings.Cut(stem[at+1:], ".")
	rest := stem[:at]
	at = strings.LastIndexByte(rest, '-')
	if !ok1 || at <= 0 {
		return n, "", false
	}
	epoch, start, ok2 := strings.Cut(rest[at+1:], ".")
	n.identity.Aggregator = rest[:at]
	var e, s, u uint64
	all := ok2 && hex(epoch, 8, &e) && hex(start, 8, &s) && hex(number, 8, &u) && hex(salt, 16, &n.salt)
	n.identity.Epoch, n.identity.Start, n.number = uint32(e), uint32(s), uint32(u)
	return n, ext, all && n.stem() == stem
}

func hex(s string, digits int, value *uint64) bool {
	u, err := strconv.ParseUint(s, 16, 4*digits)
	*value = u
	return err == nil && len(s) == digits
}
