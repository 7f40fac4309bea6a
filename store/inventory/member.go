package inventory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
)

// A member is one start of the aggregator and what the clusters know of it.
// Guarded by Keeper.mu.
type member struct {
	file catalog.Member
	over bool // the start is over and all of it is known

	due     []bool      // by target, for this start: write it now
	touched []time.Time // the same: when it was written
	known   []memberState
}

// memberState is what is known of an earlier start's file on a target.
type memberState int

const (
	memberUnknown memberState = iota
	memberThere
	memberEnded
)

// memberOf is the file of a start of which nothing more is known.
func (k *Keeper) memberOf(id catalog.Identity) catalog.Member {
	m := catalog.Member{
		Version:    catalog.Version,
		Aggregator: id.Aggregator,
		Epoch:      id.Epoch,
		Start:      id.StartID(),
	}
	if id == k.o.Identity {
		m.Host, m.Program, m.HTTP = k.o.Member.Host, k.o.Member.Program, k.o.Member.HTTP
		m.Since = k.since.UnixNano()
	}
	return m
}

func (k *Keeper) addMember(file catalog.Member) *member {
	n := len(k.o.Targets)
	m := &member{file: file, due: make([]bool, n), touched: make([]time.Time, n), known: make([]memberState, n)}
	id, err := file.Identity()
	if err != nil {
		panic(fmt.Sprintf("inventory: a member without an identity: %v", err))
	}
	k.members[id] = m
	return m
}

// touch makes the file be written at once.
func (m *member) touch() {
	for i := range m.due {
		m.due[i] = true
	}
}

func (m *member) endedEverywhere() bool {
	for _, s := range m.known {
		if s != memberEnded {
			return false
		}
	}
	return true
}

// finished says whether a start is over and no file of it lacks its final name.
func (k *Keeper) finished(id catalog.Identity) bool {
	if !k.members[id].over {
		return false
	}
	for key, b := range k.books {
		if key.id == id && (b.unfinished > 0 || !b.loaded && !b.maybe) {
			return false
		}
	}
	return true
}

// ownFile is this start's file as it is now.
func (k *Keeper) ownFile() catalog.Member {
	m := k.members[k.o.Identity].file
	m.Touched = k.o.Now().UnixNano()
	m.Ended = k.finished(k.o.Identity)
	return m
}

// memberPass brings the member files on target i up to date.
func (k *Keeper) memberPass(ctx context.Context, i int) error {
	if err := k.touchOwn(ctx, i); err != nil {
		return err
	}
	var failed error
	for _, id := range k.memberWork(i) {
		if err := k.tellMember(ctx, i, id); err != nil {
			failed = fmt.Errorf("%s: %w", catalog.MemberPath(id), err)
			if ofCluster(err) {
				return failed
			}
		}
	}
	return failed
}

func (k *Keeper) touchOwn(ctx context.Context, i int) error {
	k.mu.Lock()
	m := k.members[k.o.Identity]
	if !m.due[i] && time.Since(m.touched[i]) < touchEvery {
		k.mu.Unlock()
		return nil
	}
	file := k.ownFile()
	m.due[i] = false
	k.mu.Unlock()
	err := k.writeMemberTo(ctx, i, k.o.Identity, file)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		m.due[i] = true
		return err
	}
	m.touched[i] = time.Now()
	k.delivered()
	return nil
}

func (k *Keeper) writeMemberTo(ctx context.Context, i int, id catalog.Identity, file catalog.Member) error {
	raw, err := file.Encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := k.o.Targets[i].Cluster.Replace(ctx, catalog.MemberPath(id), raw); err != nil {
		return fmt.Errorf("%s: %w", catalog.MemberPath(id), err)
	}
	failpoint.Here("inventory.member-told")
	return nil
}

// memberWork are the earlier starts whose file on target i may need a change.
func (k *Keeper) memberWork(i int) []catalog.Identity {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []catalog.Identity
	for id, m := range k.members {
		if id != k.o.Identity && (m.known[i] == memberUnknown || m.known[i] == memberThere && k.finished(id)) {
			list = append(list, id)
		}
	}
	return list
}

// tellMember writes an earlier start's file where it is missing, or where it
// does not say yet that the start has ended.
func (k *Keeper) tellMember(ctx context.Context, i int, id catalog.Identity) error {
	there, err := k.readMember(ctx, i, id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	k.mu.Lock()
	m := k.members[id]
	if m == nil { // forgotten meanwhile
		k.mu.Unlock()
		return nil
	}
	file := m.file
	file.Ended = k.finished(id)
	file.Touched = max(file.Touched, file.Since)
	if there != nil {
		file.Touched = max(file.Touched, there.Touched)
		file.Ended = file.Ended || there.Ended
		m.file.Touched = file.Touched
	}
	k.mu.Unlock()
	if there == nil || there.Ended != file.Ended {
		if err := k.writeMemberTo(ctx, i, id, file); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m.known[i] = memberThere
	if file.Ended {
		m.known[i] = memberEnded
	}
	return nil
}

// readMember reads an earlier start's file; a damaged one counts as missing.
func (k *Keeper) readMember(ctx context.Context, i int, id catalog.Identity) (*catalog.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := k.o.Targets[i].Cluster.Open(ctx, catalog.MemberPath(id))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, catalog.MaxMember+1))
	if err != nil {
		return nil, err
	}
	m, err := catalog.DecodeMember(k.o.Targets[i].Cluster.Name()+":"+catalog.MemberPath(id), raw)
	if errors.Is(err, catalog.ErrMalformed) {
		k.o.Log.Warn("a member file is damaged and will be replaced", zap.Error(err))
		return nil, fs.ErrNotExist
	}
	return m, err
}
