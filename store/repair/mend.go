package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
)

// An Action is what was done about a file, or would be.
type Action string

// The actions there are.
const (
	Sealed  Action = "sealed"              // cut if need be, and given its final name
	Present Action = "already sealed"      // found under its final name
	Removed Action = "removed"             // nothing was in it
	Gone    Action = "gone"                // not there, and nothing had to be
	Lost    Action = "lost"                // not there, and acknowledged bytes had to be
	Failed  Action = "failed"              // see Err
	Recover Action = "recover first"       // dry run: its length is not final, what follows is a guess
	Unknown Action = "cannot be looked at" // dry run: see Err
)

// A Report tells what became of a file.
type Report struct {
	Cluster  string
	Path     string // its final path, or what it would be without a target
	Action   Action
	Bytes    int64 // that it holds now
	Messages int64
	Cut      int64 // bytes cut
	Counted  int64 // messages that only their line feeds tell
	Missing  int64 // acknowledged bytes that are not there
	Err      error
}

// mend is one try at one file: it does all that is left, as far as it gets.
// errNotYet says that the cluster needs time.
func (l *lane) mend(ctx context.Context, j *job) (*outcome, error) {
	if err := l.aim(ctx, j); err != nil {
		return nil, err
	}
	if !j.looked {
		if err := l.look(ctx, j); err != nil {
			return nil, err
		}
	}
	if j.looked && j.torn != nil && *j.torn == 0 {
		return l.remove(ctx, j) // whatever is in it
	}
	failpoint.Here("repair.looked")
	err := l.settle(ctx, "recover", func(ctx context.Context) (bool, error) {
		done, err := l.t.Cluster.Recover(ctx, j.open)
		failpoint.Here("repair.recovery-asked-for")
		return done, err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return l.absent(ctx, j)
	}
	if err != nil {
		return nil, err
	}
	failpoint.Here("repair.recovered")
	size, err := l.size(ctx, j.open)
	if err != nil {
		return nil, err
	}
	j.size = max(j.size, size)
	keep, err := l.keep(ctx, j, size)
	if err != nil {
		return nil, err
	}
	if keep == 0 {
		return l.remove(ctx, j)
	}
	if keep < size {
		failpoint.Here("repair.to-be-cut")
		err := l.settle(ctx, "cut", func(ctx context.Context) (bool, error) {
			done, err := l.t.Cluster.Truncate(ctx, j.open, keep)
			failpoint.Here("repair.cut-asked-for")
			return done, err
		})
		if err != nil {
			return nil, err
		}
		if size, err = l.size(ctx, j.open); err != nil {
			return nil, err
		}
		if size != keep {
			return nil, fmt.Errorf("%s was cut to %d bytes and has %d", j.open, keep, size)
		}
	}
	return l.seal(ctx, j, size)
}

// look makes sure that the file is not under both names. An open name that is
// gone is found out later.
func (l *lane) look(ctx context.Context, j *job) error {
	_, err := l.size(ctx, j.final)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.looked = true
		return nil
	case err != nil:
		return err
	}
	_, err = l.size(ctx, j.open)
	switch {
	case err == nil:
		return fmt.Errorf("%w: %s", errConflict, j.final)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// call runs one call of the cluster.
func (l *lane) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.r.o.CallTimeout)
	defer cancel()
	return f(ctx)
}

// settle is a call that may only have begun what it is asked for.
func (l *lane) settle(ctx context.Context, what string, f func(context.Context) (bool, error)) error {
	return l.call(ctx, func(ctx context.Context) error {
		done, err := f(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if !done {
			return fmt.Errorf("%s: %w", what, errNotYet)
		}
		return nil
	})
}

func (l *lane) size(ctx context.Context, p string) (size int64, err error) {
	err = l.call(ctx, func(ctx context.Context) error {
		info, err := l.t.Cluster.Stat(ctx, p)
		if err == nil && info.Folder {
			err = fmt.Errorf("%s is a folder", p)
		}
		size = info.Size
		return err
	})
	return size, err
}

// keep is how many bytes of a recovered file stay.
//
// With a tear: what was acknowledged before; the rest was sent again elsewhere,
// or withdrawn. Without one the process died: an incomplete last batch goes,
// one that should be longer than the file is. Beyond the lines, and where there
// are none, a last message without its line feed was not whole. What is shorter
// than it must be loses nothing more.
func (l *lane) keep(ctx context.Context, j *job, size int64) (int64, error) {
	switch {
	case size <= j.acked:
		return size, nil
	case j.torn != nil:
		return *j.torn, nil
	case size == j.end():
		return size, nil
	case size < j.end():
		if last := j.lines[len(j.lines)-1]; !j.sure && size > last.Offset {
			return last.Offset, nil
		}
		return size, nil
	}
	end, err := l.lastLine(ctx, j.open, j.end(), size)
	if err != nil {
		return 0, fmt.Errorf("look for the last line feed: %w", err)
	}
	return max(end, j.acked), nil
}

// remove takes away a file in which nothing is, with the manifest that an
// earlier try may have left.
func (l *lane) remove(ctx context.Context, j *job) (*outcome, error) {
	for _, p := range []string{j.open, j.manifestPath()} {
		if err := l.call(ctx, func(ctx context.Context) error { return l.t.Cluster.Remove(ctx, p) }); err != nil {
			return nil, fmt.Errorf("remove: %w", err)
		}
		failpoint.Here("repair.removed")
	}
	if j.acked > 0 { // the cluster has lost them all: as if somebody had taken the file away
		return &outcome{action: Lost, missing: j.acked}, nil
	}
	return &outcome{action: Removed, cut: j.size}, nil
}

// absent is for a file without its open name: somebody sealed it, or removed it.
func (l *lane) absent(ctx context.Context, j *job) (*outcome, error) {
	size, err := l.size(ctx, j.final)
	if errors.Is(err, fs.ErrNotExist) {
		if j.target != nil {
			if o, err := l.absentAt(ctx, j); o != nil || err != nil {
				return o, err
			}
		}
		if j.acked > 0 {
			return &outcome{action: Lost, missing: j.acked}, nil
		}
		if err := l.call(ctx, func(ctx context.Context) error { return l.t.Cluster.Remove(ctx, j.manifestPath()) }); err != nil {
			return nil, fmt.Errorf("remove: %w", err)
		}
		return &outcome{action: Gone}, nil
	}
	if err != nil {
		return nil, err
	}
	failpoint.Here("repair.found-sealed")
	m, err := l.readManifest(ctx, j.manifestPath())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, catalog.ErrMalformed) {
		// The final name is the commit, and a manifest was there before it:
		// somebody took it away. It is made again from what the file holds.
		l.r.o.Log.Warn("a sealed file without a good manifest: it is made again",
			zap.String("cluster", l.name), zap.String("path", j.final), zap.Error(err))
		if m, err = l.manifest(ctx, j, j.final, size); err == nil {
			err = l.place(ctx, j, m)
		}
	}
	if err != nil {
		return nil, err
	}
	o := &outcome{action: Present, manifest: m, missing: max(0, j.acked-size, m.Bytes-size)}
	if j.built != nil { // this was our own rename, whose answer was lost
		o.action, o.cut = Sealed, max(0, j.size-size)
	}
	return o, nil
}

// seal writes the manifest and gives the file its final name, which is the
// commit.
func (l *lane) seal(ctx context.Context, j *job, size int64) (*outcome, error) {
	if j.built == nil || j.built.Bytes != size {
		m, err := l.manifest(ctx, j, j.open, size)
		if err != nil {
			return nil, err
		}
		m.Missing = max(0, j.acked-size)
		failpoint.Here("repair.read")
		j.built = m
	}
	sealed := &outcome{action: Sealed, manifest: j.built, cut: j.size - size, missing: max(0, j.acked-size)}
	if j.target != nil {
		return sealed, l.sealAt(ctx, j, j.built)
	}
	if err := l.place(ctx, j, j.built); err != nil {
		return nil, err
	}
	failpoint.Here("repair.manifest-placed")
	// The name is unique, but nothing is ever renamed onto a file.
	if _, err := l.size(ctx, j.final); err == nil {
		j.looked = false
		return nil, fmt.Errorf("%w: %s", errConflict, j.final)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	err := l.call(ctx, func(ctx context.Context) error { return l.t.Cluster.Rename(ctx, j.open, j.final) })
	if err != nil { // its answer may be all that is missing: the next try finds the open name gone
		return nil, fmt.Errorf("rename: %w", err)
	}
	failpoint.Here("repair.renamed")
	return sealed, nil
}

func (l *lane) place(ctx context.Context, j *job, m *catalog.Manifest) error {
	content, err := m.Encode()
	if err != nil {
		return err
	}
	err = l.call(ctx, func(ctx context.Context) error { return l.t.Cluster.Replace(ctx, j.manifestPath(), content) })
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

// An outcome is what became of a file.
type outcome struct {
	action   Action
	manifest *catalog.Manifest // of a sealed file
	cut      int64
	missing  int64
}

func (o *outcome) report(name string, j *job) Report {
	r := Report{Cluster: name, Path: j.final, Action: o.action, Cut: o.cut, Missing: o.missing}
	if m := o.manifest; m != nil {
		r.Bytes, r.Messages, r.Counted = m.Bytes, m.Messages, countedIn(m)
		if m.At != "" {
			r.Path = m.At
		}
	}
	return r
}

// finish tells everybody what became of a file, and takes it off the backlog.
func (l *lane) finish(j *job, o *outcome) {
	k := l.r.o.Keeper
	l.mu.Lock()
	switch m := o.manifest; {
	case m != nil:
		k.PutAs(j.id, j.partition, catalog.Item{
			Category: m.Category, Chain: m.Chain, Place: l.name, Path: j.final, At: m.At, State: catalog.StateSealed,
			Bytes: m.Bytes, Messages: m.Messages, Ranges: m.Ranges,
		})
	case o.action == Lost: // readers must not take the partition for whole
		l.lost[j.final] = true
		k.PutAs(j.id, j.partition, j.item(l.name))
	default:
		k.DropAs(j.id, j.partition, l.name, j.final)
	}
	j.told = true
	l.mu.Unlock()
	failpoint.Here("repair.recorded")
	l.forget(j)
	if o.action != Lost { // the journal goes on telling of it
		for _, done := range j.done {
			done()
		}
	}
	failpoint.Here("repair.journalled")
	rep := o.report(l.name, j)
	l.r.count(&rep)
	l.log(j, &rep)
	l.r.tell(rep)
}

func (r *Repairer) count(rep *Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.stats
	switch rep.Action {
	case Sealed:
		s.Repaired++
	case Present:
		s.Found++
	case Removed, Gone:
		s.Removed++
	}
	if rep.Cut > 0 {
		s.Cut++
		s.CutBytes += rep.Cut
	}
	if rep.Missing > 0 {
		s.Missing++
		s.MissingBytes += rep.Missing
	}
	s.Counted += rep.Counted
}

func (l *lane) log(j *job, rep *Report) {
	fields := []zap.Field{
		zap.String("cluster", l.name), zap.String("path", j.final), zap.String("action", string(rep.Action)),
		zap.Stringer("known_by", j.from), zap.Int64("bytes", rep.Bytes), zap.Int64("messages", rep.Messages),
		zap.Int64("cut", rep.Cut), zap.Duration("took", time.Since(j.since)),
	}
	if rep.Missing > 0 {
		l.r.o.Log.Error("acknowledged bytes are missing: the cluster has lost data; what is left of the file is kept",
			append(fields, zap.Int64("missing", rep.Missing))...)
		return
	}
	if rep.Counted > 0 {
		fields = append(fields, zap.Int64("counted", rep.Counted))
	}
	if held, ok := l.r.say.now(); ok {
		l.r.o.Log.Info("repaired", append(fields, zap.Int("not_told", held))...)
	}
}

// tell hands a report to RepairAll.
func (r *Repairer) tell(rep Report) {
	r.mu.Lock()
	report := r.report
	r.mu.Unlock()
	if report != nil {
		report(rep)
	}
}
