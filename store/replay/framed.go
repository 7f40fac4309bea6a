package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/failpoint"
	"twinscribe/store"
	"twinscribe/store/catalog"
)

const (
	// framedPiece is how many bytes of an original's file go out as one batch, or
	// one message: hundreds of chains do so at once after an upgrade.
	framedPiece = 256 << 10

	damagedExt = ".damaged"
	copyingExt = ".copying"
)

// sendFramed sends the files of an original, oldest number first, and removes
// each when all of it is sent. One that cannot be read stays, and the others go
// on.
func (p *Spool) sendFramed(ctx context.Context, send func(*store.Batch) (int, error)) error {
	o := &p.o.Framed
	files, others, err := framed.List(p.all.fs, o.Folder, o.Base)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.fail(fmt.Errorf("spool %s: look for files of an original Scribe in %s: %w", p.dir, o.Folder, err))
		return nil // and again at the next replay: what is ours must not wait for it
	}
	p.tellOthers(others)
	p.await(files)
	for i, file := range files { // as with segments, one that is sent in part comes first
		if file.Name == p.pos.file && p.pos.offset > 0 && !p.passed[file.Name] {
			files = slices.Concat(files[i:i+1], files[:i], files[i+1:])
			break
		}
	}
	stays := false
	for i, file := range files {
		if p.passed[file.Name] {
			stays = true
			continue
		}
		if i > 0 && file.Number > files[i-1].Number+1 {
			p.log.Warn("replay: numbers are missing between two files of an original Scribe; both are sent",
				zap.String("before", files[i-1].Name), zap.String("file", file.Name))
		}
		if err := p.endBegun(ctx, send); err != nil {
			return err
		}
		sent, err := p.try(ctx, file.Name, func() error { return p.sendFile(ctx, file, send) })
		if err != nil {
			return err
		}
		if !sent {
			stays = true
			continue
		}
		p.mu.Lock()
		p.files, p.fileBytes = p.files-1, p.fileBytes-file.Size
		p.mu.Unlock()
	}
	p.framedDone = !stays
	return nil
}

// tellOthers says which names look like files of the original and are none.
func (p *Spool) tellOthers(others []framed.Passed) {
	for _, x := range others {
		ours := strings.HasSuffix(x.Name, damagedExt) || strings.Contains(x.Name, damagedExt+"-") || strings.HasSuffix(x.Name, copyingExt)
		if strings.HasPrefix(x.Name, p.o.Framed.Base+"_") && !ours {
			p.fail(fmt.Errorf("spool %s: %s is not sent and stays: %s",
				p.dir, filepath.Join(p.o.Framed.Folder, x.Name), x.Why))
		}
	}
}

// sendFile sends one file, from the cursor on if that speaks of it.
func (p *Spool) sendFile(ctx context.Context, file framed.File, send func(*store.Batch) (int, error)) error {
	path := filepath.Join(p.o.Framed.Folder, file.Name)
	f, size, err := framed.Open(p.all.fs, path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p.at(file.Name)
	if start := startOf(path, info); p.pos.start != start {
		p.pos = cursor{file: file.Name, start: start} // or it is another file of that name
	}
	c := &framedPieces{ctx: ctx, p: p, send: send, arrived: info.ModTime().UnixNano(), period: catalog.Hour.At(info.ModTime())}
	_, err = framed.Scan(f, size, framed.Options{Form: p.o.Framed.Form, From: p.pos.offset}, c.message, c.damage)
	if err == nil {
		err = c.flush()
	}
	if err == nil && p.pos.damaged > 0 {
		err = p.keepAside(f, size, path)
	}
	if err != nil {
		return err
	}
	if err := p.all.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	failpoint.Here("replay.framed-removed")
	return p.all.fs.SyncDir(p.o.Framed.Folder)
}

// startOf is the start id that the messages of a file are sent under. It is the
// same for the same file whoever sends it again, and none of ours has it: the
// epoch beside it is 0.
func startOf(path string, info fs.FileInfo) uint32 {
	return record.Checksum(fmt.Appendf(nil, "%s %d %d", path, info.Size(), info.ModTime().UnixNano())) | 1
}

// framedPieces makes batches of the messages of a file.
type framedPieces struct {
	ctx     context.Context //nolint:containedctx // of one reading
	p       *Spool
	send    func(*store.Batch) (int, error)
	arrived int64 // when the file was written last: nothing else is known
	period  catalog.Partition

	category string
	data     []byte
	ends     []uint32
	behind   []int64 // offset in the file behind each message
}

// message adds a message to the piece.
func (c *framedPieces) message(m framed.Message) error {
	category := m.Category
	if c.p.o.Framed.Form != framed.TwoFrames {
		category = c.p.o.Framed.Category
	}
	if len(c.ends) > 0 && (category != c.category || len(c.data)+len(m.Data) > framedPiece) {
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.category = category
	c.data = append(c.data, m.Data...)
	if c.p.o.Framed.Exact || len(m.Data) == 0 || m.Data[len(m.Data)-1] != '\n' {
		c.data = append(c.data, '\n')
	}
	c.ends = append(c.ends, uint32(len(c.data)))
	c.behind = append(c.behind, m.End)
	return nil
}

// damage sends what is before it and moves the cursor behind it.
func (c *framedPieces) damage(d framed.Damage) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.p.pos.offset = d.To
	c.p.pos.damaged += max(d.To-d.From, 1)
	c.p.note()
	return nil
}

// flush sends the piece. Its sequences are those within its file.
func (c *framedPieces) flush() error {
	if len(c.ends) == 0 {
		return nil
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	p := c.p
	b := &store.Batch{
		Category: c.category, Chain: 1, Partition: c.period, First: uint64(p.pos.messages) + 1, Arrived: c.arrived,
		Data: c.data, Ends: c.ends,
		Origin: &catalog.Identity{Aggregator: p.all.o.Identity.Aggregator, Start: p.pos.start},
	}
	n, err := c.send(b)
	failpoint.Here("replay.framed-sent")
	if err == nil {
		n = len(c.ends)
	}
	if n > 0 {
		p.pos.offset = c.behind[n-1]
		p.pos.messages += int64(n)
		p.mu.Lock()
		p.sent += int64(n)
		p.mu.Unlock()
		p.note()
	}
	c.data, c.ends, c.behind = c.data[:0], c.ends[:0], c.behind[:0]
	if err != nil {
		return &errSend{err}
	}
	return nil
}

// keepAside copies the damaged ranges of a file beside it, durably, and counts
// them: <file>.damaged, or .damaged-2 and so on where that name is taken.
func (p *Spool) keepAside(f vfs.File, size int64, path string) error {
	tmp := path + copyingExt
	out, err := p.all.fs.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return fmt.Errorf("keep damaged bytes aside: %w", err)
	}
	report, err := framed.Scan(f, size, framed.Options{Form: p.o.Framed.Form},
		func(framed.Message) error { return nil },
		func(d framed.Damage) error { return copyRange(out, f, d.From, d.To) })
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	for n := 1; err == nil; n++ {
		to := path + damagedExt
		if n > 1 {
			to = fmt.Sprintf("%s-%d", to, n)
		}
		if err = p.all.fs.RenameNoReplace(tmp, to); !errors.Is(err, fs.ErrExist) {
			break
		}
		err = nil
	}
	if err == nil {
		failpoint.Here("replay.framed-kept")
		err = p.all.fs.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("keep damaged bytes aside: %w", errors.Join(err, ignoreMissing(p.all.fs.Remove(tmp))))
	}
	p.lose(filepath.Base(path), report.Damaged, fmt.Sprintf("%d ranges", report.Damages))
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// copyRange copies bytes of a file in pieces.
func copyRange(to vfs.File, from vfs.File, at, end int64) error {
	buf := make([]byte, min(end-at, 64<<10))
	for at < end {
		b := buf[:min(int64(len(buf)), end-at)]
		if _, err := from.ReadAt(b, at); err != nil {
			return err
		}
		if _, err := to.Write(b); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return nil
}
