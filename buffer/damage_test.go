package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
)

// readMeter counts what is read.
type readMeter struct {
	vfs.FS
	bytes atomic.Int64
}

func (m *readMeter) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := m.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &meteredFile{File: f, m: m}, nil
}

type meteredFile struct {
	vfs.File
	m *readMeter
}

func (f *meteredFile) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(p, at)
	f.m.bytes.Add(int64(n))
	return n, err
}

func TestTornTailIsKeptInQuarantineAndCutOff(t *testing.T) {
	disk, path, content := written(t, 5, false)
	tail := strings.Repeat("half a record", 100)
	put(t, disk, path, append(bytes.Clone(content), tail...))
	core, logs := observer.New(zapcore.WarnLevel)
	b := open(t, disk, "/b", next, func(o *Options) { o.Log = zap.New(core) })
	list := b.Segments()
	if len(list) != 1 || !list[0].Sealed || list[0].Damaged || list[0].Messages != 5 {
		t.Fatalf("%+v", list)
	}
	if s := b.Stats(); s.TornTails != 1 || s.TornBytes != 1300 || s.Quarantined != 1300 || s.Damaged != 0 {
		t.Fatalf("%+v", s)
	}
	if logs.FilterMessageSnippet("cut off").Len() != 1 {
		t.Fatalf("logged: %v", logs.All())
	}
	kept, err := disk.ReadDir("/b/quarantine")
	must(t, err)
	got, err := vfs.ReadFile(disk, filepath.Join("/b/quarantine", kept[0].Name()))
	must(t, err)
	if string(got) != tail || !strings.HasSuffix(kept[0].Name(), fmt.Sprintf(".tail-%d", len(content))) {
		t.Fatalf("%s holds %d bytes", kept[0].Name(), len(got))
	}
	if got, report := numbers(t, disk, path); len(got) != 5 || report.Tail != 0 || !report.Segment.Sealed {
		t.Fatalf("%v, %+v", got, report)
	}
}

// A power cut leaves zeros where a write was under way; a block that rotted does too.
func TestZerosThatAreCutOffAreCounted(t *testing.T) {
	disk, path, content := written(t, 5, false)
	put(t, disk, path, append(bytes.Clone(content), make([]byte, 300)...))
	core, logs := observer.New(zapcore.WarnLevel)
	b := open(t, disk, "/b", next, func(o *Options) { o.Log = zap.New(core) })
	if s := b.Stats(); s.TornTails != 1 || s.TornBytes != 300 || s.Quarantined != 0 || logs.FilterMessageSnippet("cut off").Len() != 1 {
		t.Fatalf("%+v, logged: %v", s, logs.All())
	}
}

// A block that a disk writes to the wrong place may bring the header of another segment.
func TestHeaderOfAnotherSegmentCostsNoRecords(t *testing.T) {
	for _, owner := range []string{"ag1", "ag2"} {
		disk, path, content := written(t, 20, true)
		var other []byte
		if owner == "ag1" {
			_, _, other = written(t, 20, true)
		} else {
			other = record.FileHeader{Magic: segmentMagic, Flags: 2, Salt: 5, Start: 7, Number: 1, Epoch: 9, First: 1, Owner: owner}.Append(nil)
		}
		copy(content, other[:record.FileHeaderSize])
		put(t, disk, path, content)
		got, report := numbers(t, disk, path)
		if !slices.Equal(got, upTo(20)) || !report.Damaged() || report.Segment.Identity != me {
			t.Fatalf("header of %s: %v, %+v", owner, got, report)
		}
	}
}

func TestTornTailThatCannotBeKeptIsNotCutOff(t *testing.T) {
	disk, path, content := written(t, 5, false)
	torn := append(bytes.Clone(content), "half a record"...)
	put(t, disk, path, torn)
	fsys := faultfs.New(disk, faultfs.On(faultfs.Write, "*.tail-*", syscall.ENOSPC))
	b := open(t, fsys, "/b", next)
	if list := b.Segments(); len(list) != 1 || !list[0].Sealed || list[0].Problem == "" || list[0].Messages != 5 {
		t.Fatalf("%+v", list)
	}
	if now, err := vfs.ReadFile(disk, path); err != nil || !bytes.Equal(now, torn) {
		t.Fatalf("%d bytes are left of %d, %v", len(now), len(torn), err)
	}
	must(t, b.Close(t.Context()))
	fsys.Set(nil)
	later := open(t, fsys, "/b", next, next)
	if list := later.Segments(); list[0].Problem != "" || later.Stats().TornBytes != 13 {
		t.Fatalf("the next start: %+v, %+v", list, later.Stats())
	}
}

func TestEmptyLeftoversAreRemoved(t *testing.T) {
	disk := memfs.New()
	b := open(t, disk, "/b")
	add(t, b, Outage, batch("web", 1, 1))
	path := b.Segments()[0].Path
	content, err := vfs.ReadFile(disk, path)
	must(t, err)
	must(t, b.Close(t.Context()))
	for _, size := range []int{0, 10, 64} {
		put(t, disk, path, content[:size])
		later := open(t, disk, "/b", next)
		if s := later.Stats(); s.Segments != 0 || s.Quarantined != 0 || s.Bytes != 0 {
			t.Fatalf("%d bytes: %+v", size, s)
		}
		must(t, later.Close(t.Context()))
	}
	if got := disk.Crash(nil).Files(); len(got) > 1 {
		t.Fatalf("left: %q", got)
	}
}

// TestDamageInTheMiddleIsSalvaged breaks a sealed segment and one without a
// footer, starts, and wants the rest, an alarm, and the bytes in quarantine.
func TestDamageInTheMiddleIsSalvaged(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		t.Run(fmt.Sprintf("sealed=%v", sealed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { damageInTheMiddle(t, sealed) })
		})
	}
}

func damageInTheMiddle(t *testing.T, sealed bool) {
	disk, path, content := written(t, 20, sealed)
	list, _ := read(t, disk, path)
	hurt := bytes.Clone(content)
	hurt[list[7].Offset+30] ^= 4
	put(t, disk, path, hurt)
	core, logs := observer.New(zapcore.ErrorLevel)
	b := open(t, disk, "/b", next, func(o *Options) { o.Log = zap.New(core) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan struct{})
	go func() { b.Run(ctx); close(stopped) }()
	synctest.Wait()

	s := b.Stats()
	if s.Damaged != 1 || s.MissingRecords != 1 || s.DamagedBytes == 0 || s.Quarantined != int64(len(content)) || s.ToVerify != 0 {
		t.Fatalf("%+v", s)
	}
	if logs.FilterMessageSnippet("a segment is damaged").Len() != 1 {
		t.Fatalf("logged: %v", logs.All())
	}
	seg := b.Segments()[0]
	if !seg.Damaged || !seg.Sealed {
		t.Fatalf("%+v", seg)
	}
	got, report := numbers(t, disk, path)
	if want := slices.Delete(upTo(20), 7, 8); !slices.Equal(got, want) {
		t.Fatalf("salvaged: %v", got)
	}
	if d := report.Damage; len(d) != 1 || d[0].MissingFirst != 8 || d[0].MissingLast != 8 || d[0].From != list[7].Offset {
		t.Fatalf("%v", report.Damage)
	}
	kept, err := vfs.ReadFile(disk, filepath.Join("/b/quarantine", filepath.Base(strings.TrimSuffix(path, extSegment))+extDamaged))
	must(t, err)
	if !bytes.Equal(kept, hurt) {
		t.Fatal("another file is in quarantine")
	}
	must(t, b.Shipped(seg.Name))
	time.Sleep(defaultKeep + sweepEvery)
	if files := disk.Files(); slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, extShipped) }) ||
		!slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, extDamaged) }) {
		t.Fatalf("after shipping: %q", files)
	}
	cancel()
	<-stopped
}

func TestDamagedEndsOfASegmentAreMended(t *testing.T) {
	for name, spoil := range map[string]func(b []byte, at int64){
		"the header":          func(b []byte, _ int64) { b[20] ^= 1 },
		"the index":           func(b []byte, at int64) { b[at+10] ^= 1 },
		"the trailer":         func(b []byte, _ int64) { b[len(b)-30] ^= 1 },
		"header and trailer":  func(b []byte, _ int64) { b[0] ^= 1; b[len(b)-1] ^= 1 },
		"header, all of it":   func(b []byte, _ int64) { clear(b[:64]) },
		"index and trailer":   func(b []byte, at int64) { clear(b[at:]) },
		"the trailer is gone": func(b []byte, at int64) { copy(b[at:], bytes.Repeat([]byte("x"), len(b))) },
	} {
		t.Run(name, func(t *testing.T) {
			disk, path, content := written(t, 20, true)
			v, err := openView(disk, path)
			must(t, err)
			at := v.trailer.end
			must(t, v.f.Close())
			spoil(content, at)
			put(t, disk, path, content)
			b := open(t, disk, "/b", next)
			seg := b.Segments()[0]
			if seg.Messages != 20 || seg.Reason != Outage || seg.Identity != me || seg.Number != 1 || len(seg.Parts) != 1 {
				t.Fatalf("%+v", seg)
			}
			got, _ := numbers(t, disk, path)
			if !slices.Equal(got, upTo(20)) {
				t.Fatalf("%v", got)
			}
			if s := b.Stats(); s.Quarantined == 0 {
				if name != "index and trailer" { // zeros alone are not worth keeping
					t.Fatalf("nothing is kept: %+v", s)
				}
			}
		})
	}
}

func TestRenamedSegmentsAreToldAndRead(t *testing.T) {
	disk := memfs.New()
	b := open(t, disk, "/b", func(o *Options) { o.SegmentBytes = 700 })
	for i := range 30 {
		add(t, b, Outage, batch("web", uint64(i+1), 1))
	}
	must(t, b.Close(t.Context()))
	list := b.Segments()
	one, two := list[0].Path, list[1].Path
	first, _ := numbers1(t, disk, one)
	must(t, disk.Rename(one, "/b/x"))
	must(t, disk.Rename(two, one))
	must(t, disk.Rename("/b/x", two))
	got, report := numbers1(t, disk, two)
	if !slices.Equal(got, first) || !report.Damaged() || report.Segment.Number != 1 {
		t.Fatalf("swapped: %v, want %v, %+v", got, first, report)
	}
	later := open(t, disk, "/b", next)
	if s := later.Stats(); s.Damaged != 2 || s.MissingRecords != 0 {
		t.Fatalf("%+v", s)
	}
	must(t, later.Close(t.Context()))

	// Under the name of another aggregator nothing is believed.
	stranger := strings.Replace(one, "ag1-", "ag2-", 1)
	must(t, disk.Rename(one, stranger))
	if _, err := ReadSegment(disk, stranger, func(*Record) error { return nil }); err == nil || !strings.Contains(err.Error(), "own name") {
		t.Fatalf("%v", err)
	}
	again := open(t, disk, "/b", next)
	found := false
	for _, s := range again.Segments() {
		found = found || strings.HasPrefix(s.Name, "ag2-") && s.Problem != ""
	}
	if !found {
		t.Fatalf("%+v", again.Segments())
	}
	for _, name := range []string{"x.seg", "ag1-1.2-3.4.seg", "lock", "ag1-0000002a.7f3c91d2-00000001.0123456789abcdef.tmp"} {
		if _, err := ReadSegment(disk, "/b/"+name, func(*Record) error { return nil }); err == nil {
			t.Errorf("%s is read as a segment", name)
		}
	}
}

// numbers1 is the sequences in a segment, whatever its record numbers.
func numbers1(t *testing.T, fsys vfs.FS, path string) (all []uint64, report Report) {
	list, report := read(t, fsys, path)
	for i := range list {
		all = append(all, list[i].First)
	}
	return all, report
}

func TestNewerFormatsAreRefusedByName(t *testing.T) {
	for name, spoil := range map[string]func(salt uint64, b []byte) []byte{
		"header": func(_ uint64, b []byte) []byte {
			b[8] = 9
			copy(b[60:], le32(record.Checksum(b[:60])))
			return b
		},
		"footer": func(salt uint64, b []byte) []byte {
			t := b[len(b)-trailerSize:]
			t[8] = 9
			copy(t[60:], le32(record.SaltedChecksum(salt, t[:60])))
			return b
		},
		"body": func(salt uint64, b []byte) []byte {
			return record.AppendRecord(b[:64], salt, 1, append([]byte{9}, make([]byte, 100)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk, path, content := written(t, 3, true)
			n, _, ok := parseName(filepath.Base(path))
			if !ok {
				t.Fatal(path)
			}
			spoilt := spoil(n.salt, content)
			put(t, disk, path, spoilt)
			o := options()
			next(&o)
			for range 2 { // the start that fails keeps no lock
				_, err := Open(disk, "/b", o)
				if !errors.Is(err, record.ErrNewer) || !strings.Contains(err.Error(), filepath.Base(path)) {
					t.Fatalf("open: %v", err)
				}
			}
			if now, err := vfs.ReadFile(disk, path); err != nil || !bytes.Equal(now, spoilt) {
				t.Fatalf("the file was touched: %d bytes, %v", len(now), err)
			}
		})
	}
}

func le32(n uint32) []byte { return []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)} }

func TestUnreadablePagesCostTheirRecords(t *testing.T) {
	disk, path, content := written(t, 400, true)
	bad := int64(2 * pageSize)
	fsys := faultfs.New(disk, nil)
	sick := &sickDisk{FS: fsys, from: bad, to: bad + 100}
	got, report := numbers(t, sick, path)
	if report.Unreadable != pageSize || len(got) >= 400 || len(got) < 300 || report.MissingRecords != int64(400-len(got)) {
		t.Fatalf("%d records of %d bytes, %+v", len(got), len(content), report)
	}
}

// sickDisk does not give the bytes from, to.
type sickDisk struct {
	vfs.FS
	from, to int64
}

func (d *sickDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &sickFile{File: f, d: d}, nil
}

type sickFile struct {
	vfs.File
	d *sickDisk
}

func (f *sickFile) ReadAt(p []byte, at int64) (int, error) {
	if at < f.d.to && at+int64(len(p)) > f.d.from {
		return 0, &fs.PathError{Op: "read", Path: f.Name(), Err: syscall.EIO}
	}
	return f.File.ReadAt(p, at)
}

func TestSingleRecordsAreReadAtTheirOffsets(t *testing.T) {
	disk, path, _ := written(t, 20, true)
	s, err := OpenSegment(disk, path)
	must(t, err)
	defer s.Close()
	var at []Record
	report, err := s.Scan(func(r *Record) error { at = append(at, clone(r)); return nil })
	must(t, err)
	if report.Records != 20 {
		t.Fatalf("%+v", report)
	}
	must(t, disk.Remove(path)) // it stays readable
	for _, span := range [][2]int{{0, 1}, {19, 20}, {5, 9}} {
		want := uint64(span[0] + 1)
		err := s.At(at[span[0]].Offset, at[span[1]-1].End(), func(r *Record) error {
			if r.First != want || r.Offset != at[want-1].Offset {
				t.Errorf("record %d at %d", r.First, r.Offset)
			}
			want++
			return nil
		})
		must(t, err)
		if want != uint64(span[1]+1) {
			t.Errorf("%v: read up to %d", span, want-1)
		}
	}
	if err := s.At(at[3].Offset+8, at[4].End(), func(*Record) error { return nil }); err == nil {
		t.Error("bytes that begin inside a record are read")
	}
}
