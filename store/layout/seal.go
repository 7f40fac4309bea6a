package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
)

var (
	// ErrAstray says that the open name is gone and no file of the right length
	// has the name that the manifest tells: Find may know where it is.
	ErrAstray = errors.New("the file is neither under its open name nor where its manifest says")

	// ErrTaken says that somebody else took one name after another first.
	ErrTaken = errors.New("every name that was tried was taken by somebody else")
)

// attempts is how many names one call of Seal tries.
const attempts = 16

// A File is one closed file that is to get its name.
type File struct {
	Cluster  cluster.Cluster
	Open     string            // its open name
	Manifest *catalog.Manifest // of all of it, with its Target; At is kept up to date
	// Put writes the manifest as it is now. It must be written before the rename,
	// so that whoever finds the open name gone knows where the file went.
	Put func(ctx context.Context) error
	// Call runs one call of the cluster, with its time; nil: with none of its own.
	Call func(ctx context.Context, f func(context.Context) error) error
}

// Numbers remembers which numbers this process chose last, so that files that
// are sealed side by side do not all try the same. The zero value is ready; it
// may be used by many goroutines at once. It knows nothing of other processes:
// the rename decides.
type Numbers struct {
	mu   sync.Mutex // memory only
	last map[string]uint32
}

// maxStems bounds the memory; forgetting costs a name that is tried in vain.
const maxStems = 1 << 12

// next is the number to be tried where listed is the first that is free on the cluster.
func (n *Numbers) next(stem string, listed uint32) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last, ok := n.last[stem]; ok && last >= listed {
		listed = last + 1
	}
	if n.last == nil || len(n.last) >= maxStems {
		n.last = make(map[string]uint32)
	}
	n.last[stem] = listed
	return listed
}

// Seal gives a file its name. The rename is the commit; every step before it
// can be done again by whoever comes next, with the manifest that lies on the
// cluster then:
//
//	open name there, At not    the rename is missing
//	both there                 the name is somebody else's: the next one is chosen, the
//	                           manifest replaced, and again
//	At there, open name not    done, if it is the file, by length and checksum
//	neither                    ErrAstray
//
// A name that is free is never given up for another one, so a rename of a
// process that is gone, which arrives late, leads to where the manifest says.
// An error other than ErrAstray leaves the file for another call; ErrTaken
// comes when attempts are used up.
func (n *Numbers) Seal(ctx context.Context, f *File) error {
	m := f.Manifest
	if m.At != "" { // of an earlier try, perhaps of another process with other content
		if err := f.Put(ctx); err != nil {
			return err
		}
	}
	for range attempts {
		if m.At == "" {
			if err := n.choose(ctx, f); err != nil {
				return err
			}
		}
		where, err := f.find(ctx)
		if err != nil {
			return err
		}
		switch where {
		case done:
			return nil
		case astray:
			return fmt.Errorf("%w: %s, %d bytes", ErrAstray, m.At, m.Bytes)
		case taken:
			failpoint.Here("name.taken")
			m.At = ""
			continue
		case free:
		}
		failpoint.Here("name.free")
		err = f.call(ctx, func(ctx context.Context) error { return f.Cluster.Rename(ctx, f.Open, Outside(m.At)) })
		if err == nil {
			failpoint.Here("name.given")
			return nil
		}
		// Somebody was faster: to the name, or, where a rename whose answer was lost
		// arrived late, to the file. Looking tells.
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rename: %w", err)
		}
	}
	return fmt.Errorf("%w: %s", ErrTaken, m.Target.Folder)
}

// choose finds the number and writes the manifest that says so.
func (n *Numbers) choose(ctx context.Context, f *File) error {
	m, t := f.Manifest, f.Manifest.Target
	first, err := f.next(ctx)
	if err != nil {
		return err
	}
	number := n.next(t.Folder+"/"+t.Stem, first)
	if number > catalog.MaxNumber {
		return fmt.Errorf("%s: no number is left", t.Path(catalog.MaxNumber))
	}
	m.SetTarget(t, t.Path(number))
	failpoint.Here("name.chosen")
	if err := f.Put(ctx); err != nil {
		return err // whether it is written is not known: the next try writes the same
	}
	failpoint.Here("name.noted")
	return nil
}

// next is one more than the highest number in the folder.
func (f *File) next(ctx context.Context) (uint32, error) {
	t := f.Manifest.Target
	list, err := f.list(ctx)
	if err != nil {
		return 0, err
	}
	next := t.First
	found := false
	for _, i := range list {
		if number, ok := t.Number(i.Name); ok && (!found || number >= next) {
			next, found = number+1, true
		}
	}
	return next, nil
}

func (f *File) list(ctx context.Context) (list []cluster.Info, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		list, err = f.Cluster.List(ctx, Outside(f.Manifest.Target.Folder))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", f.Manifest.Target.Folder, err)
	}
	return list, nil
}

func (f *File) call(ctx context.Context, do func(context.Context) error) error {
	if f.Call == nil {
		return do(ctx)
	}
	return f.Call(ctx, do)
}

// The places where a file can be.
type place int

const (
	free   place = iota // under its open name, and At is free
	taken               // under its open name, and At is there
	done                // at At
	astray              // elsewhere, or nowhere
)

// find is look, and makes sure that the file that has the name is the one: it
// costs a reading of it, only where the answer of a rename was lost or nobody
// is left who heard it.
func (f *File) find(ctx context.Context) (place, error) {
	where, err := f.look(ctx)
	if err != nil || where != done {
		return where, err
	}
	ok, err := f.Holds(ctx, f.Manifest.At)
	if err == nil && !ok {
		where = astray
	}
	return where, err
}

// look finds out where the file is, by names and length. The open name is looked for after At: where
// it is there then, the file cannot be the one that was seen at At.
func (f *File) look(ctx context.Context) (place, error) {
	for again := false; ; again = true {
		size, there, err := f.stat(ctx, Outside(f.Manifest.At))
		if err != nil {
			return 0, err
		}
		_, open, err := f.stat(ctx, f.Open)
		switch {
		case err != nil:
			return 0, err
		case open && there:
			return taken, nil
		case open:
			return free, nil
		case there && size == f.Manifest.Bytes:
			return done, nil
		case there || again:
			return astray, nil
		}
		// A rename may have come between the two looks.
	}
}

func (f *File) stat(ctx context.Context, p string) (size int64, there bool, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		info, err := f.Cluster.Stat(ctx, p)
		if err == nil && info.Folder {
			size = -1 // nothing of ours
			return nil
		}
		size = info.Size
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for %s: %w", p, err)
	}
	return size, true, nil
}

// Done says whether the file has the name that its manifest tells, with its
// content, and is not under its open name any more.
func (f *File) Done(ctx context.Context) (bool, error) {
	if f.Manifest.At == "" {
		return false, nil
	}
	where, err := f.find(ctx)
	return where == done, err
}

// Link has the target's link tell of the file, which has its name. The link may
// be behind by a file where this fails or the process ends: the next file sets
// it right. One that tells of a later file stays.
func (f *File) Link(ctx context.Context) error {
	t := f.Manifest.Target
	number, ok := t.NumberOf(f.Manifest.At)
	if t.Link == "" || !ok {
		return nil
	}
	link := Outside(t.Folder + "/" + t.Link)
	// A link that cannot be read is replaced.
	if b, err := f.read(ctx, link, 1<<10); err == nil && later(t, number, string(b)) {
		return nil
	}
	err := f.call(ctx, func(ctx context.Context) error { return f.Cluster.Replace(ctx, link, []byte(t.Base(number))) })
	if err != nil {
		return fmt.Errorf("link %s: %w", link[1:], err)
	}
	failpoint.Here("name.linked")
	return nil
}

// later says whether a link's content is a later file than the one of a number.
// The date stands in the name before the number and sorts by time.
func later(t *catalog.Target, number uint32, content string) bool {
	if n, ok := t.Number(content); ok {
		return n > number
	}
	return len(content) == len(t.Base(number)) && content > t.Base(number)
}

func (f *File) read(ctx context.Context, p string, limit int64) (b []byte, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		r, err := f.Cluster.Open(ctx, p)
		if err != nil {
			return err
		}
		defer r.Close()
		b, err = io.ReadAll(io.LimitReader(r, limit))
		return err
	})
	return b, err
}
