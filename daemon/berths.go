package daemon

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"twinscribe/aggregator"
	"twinscribe/buffer/framed"
	"twinscribe/conf"
	"twinscribe/store/catalog"
	"twinscribe/store/replay"
	"twinscribe/store/scribefile"
)

// A berth is where one chain stands among those of its category. That of a
// spool has the store's number among those of its category with the same path,
// so that a store that comes or goes elsewhere leaves the spool with its owner.
type berth struct {
	category string
	lane     aggregator.Lane
}

// partsOf are the stores of a route, and the number of the first: those of a
// bucket, or the store itself.
func partsOf(st *conf.Store) (stores []conf.Store, first int) {
	if st.Bucket != nil {
		return st.Bucket.Stores, 0
	}
	return []conf.Store{*st}, aggregator.Whole
}

// moored is the berth of a chain's spool.
func (s *Server) moored(c *conf.Category, p *conf.BufferPlace, at berth) berth {
	path, number := s.spoolPath(p), 0
	for _, before := range c.Each()[:at.lane.Route] {
		stores, _ := partsOf(&before)
		if slices.ContainsFunc(stores, func(st conf.Store) bool {
			other := spoolOf(&st)
			return other != nil && s.spoolPath(other) == path
		}) {
			number++
		}
	}
	at.lane.Route = number
	return at
}

// What stands before a number in the folders of spools, and the folder of those
// that take over what an original has left (takeOverOne).
const (
	routeFolder  = "route"
	partFolder   = "part"
	framedFolder = "framed"
)

// framedName is what an original's buffer files are called: <base>_NNNNN.
var framedName = regexp.MustCompile(`^(.+)_[0-9]{5,}$`)

// folderOf is a category's folder below a path of spools: that of the catalog.
// Of a name that other files and folders there may have, the last byte is
// encoded, which the catalog never does.
func folderOf(category string) string {
	dir := catalog.Folder(category)
	if dir == framedFolder || dir == replay.LockFile || framedName.MatchString(dir) {
		last := len(dir) - 1
		dir = fmt.Sprintf("%s%%%02X", dir[:last], dir[last])
	}
	return dir
}

// categoryOf is the category that has a folder there; false: its name was too
// long, or folderOf never makes it.
func categoryOf(folder string) (string, bool) {
	if category, ok := catalog.Category(folder); ok {
		return category, folderOf(category) == folder
	}
	at := len(folder) - len("%XX")
	if at <= 0 || folder[at] != '%' {
		return "", false
	}
	last, err := strconv.ParseUint(folder[at+1:], 16, 8)
	if err != nil {
		return "", false
	}
	category, ok := catalog.Category(folder[:at] + string([]byte{byte(last)}))
	return category, ok && folderOf(category) == folder
}

// spoolDir is the folder of a spool.
func (b berth) spoolDir() string {
	dir := folderOf(b.category)
	if b.lane.Route > 0 {
		dir = filepath.Join(dir, routeFolder+strconv.Itoa(b.lane.Route))
	}
	if b.lane.Part != aggregator.Whole {
		dir = filepath.Join(dir, fmt.Sprintf("%s%03d", partFolder, b.lane.Part))
	}
	return dir
}

// berthOf is the berth that a spool's folder belongs to; false: nobody made it,
// or its category cannot be told.
func berthOf(l replay.Leftover) (berth, bool) {
	names := strings.Split(l.Dir, string(filepath.Separator))
	b := berth{l.Category, aggregator.Lane{Part: aggregator.Whole}}
	ofScribe := l.Framed && names[0] == scribefile.FileName(b.category)
	if names[0] != folderOf(b.category) && !ofScribe {
		known := false // no record has told it
		if b.category, known = categoryOf(names[0]); !known {
			return berth{}, false
		}
	}
	for _, name := range names[1:] {
		to := &b.lane.Route
		number, is := strings.CutPrefix(name, routeFolder)
		if !is {
			to = &b.lane.Part
			if number, is = strings.CutPrefix(name, partFolder); !is {
				return berth{}, false
			}
		}
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			return berth{}, false
		}
		*to = int(n)
	}
	return b, true
}

// mostNamed bounds the names that named tries.
const mostNamed = 16

// named is the category whose chain is given the files of one base name that
// an original Scribe has left: the one of the rule, or one that it matches. Where
// messages bring their categories these need not be the same, and where another
// rule has the pattern's own name it is a longer one.
func named(cfg *conf.Config, rule *conf.Category, f *conf.Framed) string {
	name, pattern := strings.CutSuffix(rule.Match, "*")
	if pattern && name == "" {
		name = f.Base
	}
	if !pattern || f.Form != "two" {
		return name
	}
	for try := name; len(try) <= len(name)+mostNamed; try += "-" {
		if cfg.RuleOf(try) == rule {
			return try
		}
	}
	return name
}

// framedFor says where an original Scribe has left files for a chain.
func framedFor(cfg *conf.Config, rule *conf.Category, f *conf.Framed, category string) replay.Framed {
	if f == nil || f.Base != "" && named(cfg, rule, f) != category {
		return replay.Framed{}
	}
	return framedOf(f, category)
}

// framedOf are the files of one base name, or of a category.
func framedOf(f *conf.Framed, category string) replay.Framed {
	o := replay.Framed{Folder: f.Path, Base: f.Base, Form: framed.OneFrame, Category: category, Exact: true}
	if f.Form == "two" {
		o.Form = framed.TwoFrames
	}
	if f.Base == "" {
		o.Base = scribefile.FileName(category)
		o.Folder = filepath.Join(f.Path, o.Base)
	}
	return o
}
