package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
)

// A past is what a folder's journal files say.
type past struct {
	files  []oldFile // all of them, oldest first
	number uint32    // of the newest
	states []FileState
	damage []string
}

type fileKey struct{ cluster, path string }

// A statement is what one journal file says about one file.
type statement struct {
	begin Begin
	lines []Line
	torn  *int64
	again bool // said again and not complete yet: older files count
	over  bool // sealed
}

// readAll reads the journal files of a folder, oldest first. What a newer one
// states completely replaces what older ones say about the same file.
func readAll(fsys vfs.FS, dir string) (past, error) {
	var p past
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return p, ignoreMissing(err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	known := make(map[fileKey]*statement)
	var order []fileKey // as they were first begun
	for _, e := range entries {
		number, salt, ok := parseFileName(e.Name())
		if !ok {
			continue
		}
		r := reading{path: filepath.Join(dir, e.Name()), salt: salt, names: make(names), of: make(map[uint64]*statement)}
		if err := r.file(fsys); err != nil {
			return p, err
		}
		p.number = max(p.number, number)
		p.files = append(p.files, oldFile{path: r.path, damaged: len(r.damage) > 0})
		p.damage = append(p.damage, r.damage...)
		for _, s := range r.statements {
			key := fileKey{s.begin.Cluster, s.begin.OpenPath}
			old, have := known[key]
			if !have {
				order = append(order, key)
			}
			if !have || !s.again || old.again {
				known[key] = s
			}
		}
	}
	for _, key := range order {
		if s := known[key]; !s.over {
			p.states = append(p.states, FileState{Begin: s.begin, Lines: s.lines, Torn: s.torn})
		}
	}
	return p, nil
}

func parseFileName(name string) (number uint32, salt uint64, ok bool) {
	stem, ok := strings.CutSuffix(name, fileSuffix)
	first, second, cut := strings.Cut(stem, ".")
	n, err1 := strconv.ParseUint(first, 16, 32)
	salt, err2 := strconv.ParseUint(second, 16, 64)
	if !ok || !cut || err1 != nil || err2 != nil || name != fileName(uint32(n), salt) {
		return 0, 0, false
	}
	return uint32(n), salt, true
}

// reading is one journal file while it is read.
type reading struct {
	path       string
	salt       uint64
	names      names
	of         map[uint64]*statement // by the entry's number in this file
	statements []*statement
	damage     []string
	senseless  bool // a record verified and made no sense
}

func (r *reading) file(fsys vfs.FS) error {
	f, err := fsys.OpenFile(r.path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := r.header(f, info.Size()); err != nil {
		return err
	}
	if info.Size() <= record.FileHeaderSize {
		return nil
	}
	o := record.ScanOptions{Salt: r.salt, From: record.FileHeaderSize, First: 1}
	report, err := record.Scan(f, info.Size(), o, r.record)
	if err != nil {
		return fmt.Errorf("journal %s: %w", r.path, err)
	}
	for _, d := range report.Damage {
		r.note("%v", d)
	}
	if len(report.Damage) > 0 || r.senseless {
		r.doubtLast()
	}
	return nil
}

// doubtLast leaves out the last line of each file. Records were lost, perhaps
// one that replaced that line: then the line says more than the batch that was
// written had, and repair would cut an acknowledged batch as an incomplete one.
// Lines before the last are those of batches that were acknowledged.
func (r *reading) doubtLast() {
	for _, s := range r.statements {
		if n := len(s.lines); n > 0 {
			s.lines = s.lines[:n-1]
		}
	}
}

// header checks the header. A damaged one is only noted: the salt stands in
// the name. A file shorter than that has no records.
func (r *reading) header(f vfs.File, size int64) error {
	if size < record.FileHeaderSize {
		return nil
	}
	b := make([]byte, record.FileHeaderSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return fmt.Errorf("journal %s: %w", r.path, err)
	}
	h, _, err := record.ParseFileHeader(b, fileMagic)
	switch {
	case errors.Is(err, record.ErrNewer):
		return fmt.Errorf("journal %s: %w; start the newer program, or move the file away: what it names is then found by listing", r.path, err)
	case err != nil:
		r.note("%v", err)
	case h.Flags > targetVersion:
		return fmt.Errorf("journal %s: bodies of version %d, this program knows %d: %w", r.path, h.Flags, targetVersion, record.ErrNewer)
	case h.Salt != r.salt:
		r.note("the header's salt is not the name's")
	}
	return nil
}

func (r *reading) note(format string, args ...any) {
	r.damage = append(r.damage, r.path+": "+fmt.Sprintf(format, args...))
}

// record takes one record that verified. One that makes no sense is damage,
// and costs no other.
func (r *reading) record(rec record.Record) error {
	p := &body{b: rec.Body}
	kind, entry := p.byte(), p.uint()
	if err := r.apply(kind, entry, p); err != nil {
		r.senseless = true
		r.note("record %d at %d: %v", rec.Number, rec.Offset, err)
	}
	return nil
}

func (r *reading) apply(kind byte, entry uint64, p *body) error {
	if kind == kindBegin || kind == kindAgain {
		s := &statement{begin: decodeBegin(p, r.names), again: kind == kindAgain}
		if p.bad {
			return errors.New("begin cut short")
		}
		r.of[entry] = s
		r.statements = append(r.statements, s)
		return nil
	}
	s := r.of[entry]
	if s == nil || s.over {
		return fmt.Errorf("record of kind %d for file %d, which was not begun", kind, entry)
	}
	switch kind {
	case kindBatch:
		l, err := decodeLine(p, r.names)
		if err != nil {
			return err
		}
		return s.line(l)
	case kindMore:
		if len(s.lines) == 0 {
			return errors.New("more of no line")
		}
		return decodeItems(p, r.names, &s.lines[len(s.lines)-1])
	case kindTorn:
		length := int64(p.uint())
		if p.bad || length < 0 {
			return errors.New("torn without a length")
		}
		s.torn = &length
	case kindSealed:
		s.over, s.lines = true, nil
	case kindStated:
		s.again = false
	default:
		return fmt.Errorf("record of kind %d", kind)
	}
	return nil
}

// line adds a line. The last one is replaced by one of the same offset: its
// Append was not tried.
func (s *statement) line(l Line) error {
	n := len(s.lines)
	if n > 0 && l.Offset == s.lines[n-1].Offset {
		s.lines[n-1] = l
		return nil
	}
	if n > 0 && l.Offset < s.lines[n-1].End {
		return fmt.Errorf("line at %d where the file has %d bytes", l.Offset, s.lines[n-1].End)
	}
	if n > 1 && join(&s.lines[n-2], &s.lines[n-1]) {
		s.lines = s.lines[:n-1]
	}
	s.lines = append(s.lines, l)
	return nil
}

// join adds b to a, where it follows without a gap.
func join(a, b *Line) bool {
	if a.End != b.Offset || a.Last+1 != b.First || a.Counted != b.Counted {
		return false
	}
	a.End, a.Last = b.End, b.Last
	a.IDs = append(a.IDs, b.IDs...)
	a.LineFeeds = append(a.LineFeeds, b.LineFeeds...)
	arrived(a)
	arrived(b)
	for _, x := range b.Arrivals {
		if n := len(a.Arrivals); n > 0 && sameSecond(a.Arrivals[n-1].Millis, x.Millis) {
			a.Arrivals[n-1].Senders = union(a.Arrivals[n-1].Senders, x.Senders)
		} else {
			a.Arrivals = append(a.Arrivals, x)
		}
	}
	return true
}

func sameSecond(a, b int64) bool { return -1000 < b-a && b-a < 1000 }

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// arrived turns a batch's arrival into a run's.
func arrived(l *Line) {
	if len(l.Arrivals) == 0 && l.Arrived != 0 {
		l.Arrivals = []catalog.Arrival{{First: l.First, Millis: l.Arrived / 1e6, Senders: l.Senders}}
	}
	l.Arrived, l.Senders = 0, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
