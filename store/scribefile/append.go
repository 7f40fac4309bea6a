package scribefile

import (
	"cmp"
	"context"

	"go.uber.org/zap"

	"twinscribe/store"
)

// A job is one Append. The writer's turn is taken.
type job struct {
	w    *writer
	spec *Spec
	b    *store.Batch
	room *scratch

	next int   // the first message that is not in a file
	done int   // so many messages are stored as the spec promises
	from int64 // where in the current file those begin that are not
}

// run writes the batch piece by piece. Whatever ends it, j.done says what may
// be answered for: those messages stand in closed files, or in the current one
// below j.from.
func (j *job) run(ctx context.Context) error {
	w := j.w
	now := w.files.o.Now()
	if err := w.ready(j.spec, now); err != nil {
		return err
	}
	w.used.Store(now.UnixNano())
	j.from = w.cur.size
	for j.next < j.b.Len() {
		if err := ctx.Err(); err != nil {
			return cmp.Or(j.commit(), err)
		}
		if whole, err := j.write(); err != nil {
			err = cmp.Or(j.commit(), err)
			if !whole && w.cur != nil {
				w.files.torn.Add(1)
				w.abandon()
			}
			return err
		}
		if !j.spec.due(w.cur.size, w.cur.begun, w.local(now)) {
			continue
		}
		if err := j.commit(); err != nil {
			return err
		}
		if err := w.rotateIfDue(j.spec, now); err != nil {
			w.files.log.Warn("a file that is due was not replaced, and is written to further on", zap.Error(err))
		}
		j.from = w.cur.size
	}
	return j.commit()
}

// write writes the next piece. Where that fails the file is cut back to the end
// of the last whole message; whole says whether that is how it ends now.
func (j *job) write() (whole bool, err error) {
	c := j.w.cur
	p := j.spec.cut(j.b, j.next, c.size, j.room)
	n := 0
	if len(p.data) > 0 {
		n, err = c.f.Write(p.data)
	}
	if err == nil {
		c.size += int64(n)
		j.w.files.bytes.Add(int64(n))
		j.next += p.n
		return true, nil
	}
	j.w.files.writeErrors.Add(1)
	messages, end := p.whole(j.b, j.next, int64(n))
	cutErr := c.cut(int64(n), end)
	j.w.files.bytes.Add(end)
	j.next += messages
	if cutErr != nil {
		j.w.files.log.Error("a file's torn end could not be cut off: it stays, and the next number is begun",
			zap.Error(explain(statusWrite, c.path, cutErr)))
	}
	return cutErr == nil, explain(statusWrite, c.path, err)
}

// cut takes back all but the first keep of the bytes that were written last. It
// fails where the file is not as long as those make it: then somebody else
// writes to it, whose bytes must not be cut off.
func (c *current) cut(written, keep int64) error {
	info, err := c.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != c.size+written {
		return errForeign
	}
	if written > keep {
		if err := c.f.Truncate(c.size + keep); err != nil {
			return err
		}
	}
	c.size += keep
	return nil
}

// commit makes what was written as durable as the spec promises: only then is
// it answered for. After a failed fdatasync nobody knows what is on the disk,
// and a later one would not tell: the bytes are taken back, and the file is left.
func (j *job) commit() error {
	c := j.w.cur
	if j.next == j.done {
		return nil
	}
	if j.spec.Sync {
		if err := c.f.Datasync(); err != nil {
			j.w.files.writeErrors.Add(1)
			written := c.size - j.from
			c.size = j.from
			if cutErr := c.cut(written, 0); cutErr != nil {
				j.w.files.torn.Add(1)
				j.w.files.log.Error("what could not be synced could not be cut off either: these lines may stand twice",
					zap.Error(explain(statusWrite, c.path, cutErr)))
			} else {
				j.w.files.bytes.Add(-written)
			}
			j.w.abandon()
			return explain(statusWrite, c.path, err)
		}
	}
	c.count += int64(j.next - j.done)
	j.done, j.from = j.next, c.size
	return nil
}
