package scribefile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/store"
	"twinscribe/store/storetest"
)

// TestEveryAnsweredMessageStandsOnceAndWhole drives two chains as their queues
// do, each its batch again and again until all of it is taken, while calls fail
// in every way, time goes by, descriptors are short and processes are replaced.
// Whatever was answered must stand exactly once, whole, in each chain's order.
func TestEveryAnsweredMessageStandsOnceAndWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t, rt)
		rt.Repeat(map[string]func(*rapid.T){
			"append":   m.append,
			"append 2": m.append,
			"append 3": m.append,
			"append 4": m.append,
			"fault":    m.fault,
			"time":     m.passTime,
			"restart":  m.restart,
			"rest":     func(*rapid.T) { m.chains[0].place.Rest() },
			"":         func(*rapid.T) {},
		})
		m.finish(rt)
	})
}

type machine struct {
	t      *testing.T
	r      *rig
	o      Options
	spec   Spec
	shared bool
	chains []*chain
}

type chain struct {
	spec    Spec
	place   *Place
	pending *store.Batch // not taken yet
	next    int
	acked   []string
}

func newMachine(t *testing.T, rt *rapid.T) *machine {
	m := &machine{t: t, spec: webSpec()}
	m.spec.Sync = rapid.Bool().Draw(rt, "sync")
	m.spec.MaxSize = rapid.SampledFrom([]int64{0, 30, 200, 1e9}).Draw(rt, "max size")
	m.spec.MaxWriteSize = rapid.SampledFrom([]int64{0, 20, 1e6}).Draw(rt, "max write size")
	m.spec.ChunkSize = rapid.SampledFrom([]int64{0, 32}).Draw(rt, "chunk")
	m.spec.Rotate = rapid.SampledFrom([]Rotation{Never, Hourly, Daily}).Draw(rt, "rotate")
	m.spec.WriteMeta = rapid.Bool().Draw(rt, "meta")
	m.spec.WriteStats = rapid.Bool().Draw(rt, "stats")
	m.spec.RotateOnReopen = rapid.Bool().Draw(rt, "reopen")
	m.shared = rapid.Bool().Draw(rt, "shared")
	m.o = Options{Idle: 10 * time.Minute, MaxOpen: rapid.IntRange(1, 3).Draw(rt, "max open")}
	m.r = newRig(t, m.o)
	for i := range 2 {
		c := &chain{spec: m.spec}
		if i == 1 && !m.shared {
			c.spec.Base, c.spec.Symlink = "web2", "web2"
		}
		c.place = m.r.open(c.spec)
		m.chains = append(m.chains, c)
	}
	return m
}

func (m *machine) append(rt *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(rt, "chain")
	c := m.chains[i]
	if c.pending == nil {
		var messages []string
		for range rapid.IntRange(1, 6).Draw(rt, "messages") {
			c.next++
			pad := strings.Repeat("x", rapid.IntRange(0, 30).Draw(rt, "length"))
			messages = append(messages, fmt.Sprintf("<%d:%06d:%s>", i, c.next, pad))
		}
		c.pending = storetest.Batch(uint64(c.next-len(messages)+1), messages...)
	}
	m.do(rt, c)
}

// do is one attempt, with what the contract says about its answer.
func (m *machine) do(rt *rapid.T, c *chain) {
	b := c.pending
	rest, err := c.place.Append(m.t.Context(), b)
	taken := 0
	for _, k := range b.Taken {
		taken += k.Messages
	}
	for i := range taken {
		c.acked = append(c.acked, string(b.Message(i)))
	}
	switch {
	case err == nil && (rest != nil || taken != b.Len()):
		rt.Fatalf("nil, with a rest %v and %d of %d taken", rest, taken, b.Len())
	case err != nil && (rest == nil || rest.Len()+taken != b.Len() || rest.Len() == 0 || rest.First != b.First+uint64(taken)):
		rt.Fatalf("%v, with a rest %v and %d of %d taken", err, rest, taken, b.Len())
	}
	if c.pending = rest; rest != nil {
		rest.Taken = nil
	}
	m.check(rt)
}

// fault draws what goes wrong from now on. Two faults at once can leave lines
// twice, and docs/formats-scribe.md says so: bytes that are in the file, could
// not be synced and cannot be cut off. So those two are not drawn together.
func (m *machine) fault(rt *rapid.T) {
	often := rapid.IntRange(1, 4).Draw(rt, "every")
	count := 0
	kinds := rapid.SampledFrom([][]faultfs.Kind{
		nil, {faultfs.Write}, {faultfs.Write, faultfs.Truncate}, {faultfs.Sync}, {faultfs.SyncDir},
		{faultfs.Create, faultfs.Open}, {faultfs.Stat}, {faultfs.ReadDir, faultfs.Read}, {faultfs.Symlink, faultfs.Rename, faultfs.Readlink},
		{faultfs.Mkdir, faultfs.Lock}, {faultfs.Close, faultfs.Write},
	}).Draw(rt, "kinds")
	short := int64(rapid.IntRange(0, 120).Draw(rt, "short"))
	cause := rapid.SampledFrom([]error{syscall.EIO, syscall.ENOSPC, syscall.EACCES}).Draw(rt, "cause")
	m.r.fsys.Set(func(op faultfs.Op) error {
		if !slices.Contains(kinds, op.Kind) {
			return nil
		}
		if count++; count%often != 0 {
			return nil
		}
		if op.Kind == faultfs.Write {
			return &faultfs.Short{Bytes: min(short, op.Bytes-1), Err: cause}
		}
		return cause
	})
}

func (m *machine) passTime(rt *rapid.T) {
	m.r.now = m.r.now.Add(time.Duration(rapid.SampledFrom([]int{1, 30, 700, 3600, 86400}).Draw(rt, "seconds")) * time.Second)
	for _, c := range m.chains {
		c.place.Tick(m.t.Context(), m.r.now) // an error is about a rotation that failed
	}
	m.check(rt)
}

// restart closes everything and goes on with another process. With Sync that
// may be a power cut.
func (m *machine) restart(rt *rapid.T) {
	disk := m.r.disk
	if m.spec.Sync && rapid.Bool().Draw(rt, "power cut") {
		disk = disk.Crash(nil)
	} else {
		for _, c := range m.chains {
			c.place.Close(m.t.Context()) // an error is about a close that was made to fail
		}
	}
	now := m.r.now
	m.r = newRigOn(m.t, disk, m.o)
	m.r.now = now
	for _, c := range m.chains {
		c.place = m.r.open(c.spec)
	}
	m.check(rt)
}

// check looks for everything that was answered.
func (m *machine) check(rt *rapid.T) {
	var lines []string
	for _, name := range m.r.disk.Files() { // in order of names, so of dates and numbers
		if strings.HasSuffix(name, statsName) {
			continue
		}
		all := strings.SplitAfter(m.r.read(name), "\n")
		for _, line := range all {
			line = strings.TrimLeft(line, "\x00") // chunks
			if whole, ok := strings.CutSuffix(line, "\n"); ok {
				lines = append(lines, whole)
			}
		}
	}
	for i, c := range m.chains {
		var got []string
		for _, line := range lines {
			if strings.HasPrefix(line, fmt.Sprintf("<%d:", i)) && strings.HasSuffix(line, ">") {
				got = append(got, line)
			}
		}
		if !slices.Equal(got, c.acked) {
			rt.Fatalf("chain %d has %d lines, %d are answered\n got %q\nwant %q\n%q", i, len(got), len(c.acked), got, c.acked, m.r.disk.Files())
		}
	}
	if s := m.r.files.Stats(); s.Open > m.o.MaxOpen {
		rt.Fatalf("%d files are open", s.Open)
	}
}

// finish heals the disk: then everything goes through.
func (m *machine) finish(rt *rapid.T) {
	m.r.fsys.Set(nil)
	for i, c := range m.chains {
		if c.pending != nil {
			m.do(rt, c)
		}
		if c.pending != nil || len(c.acked) != c.next {
			rt.Fatalf("chain %d: %d of %d answered on a good disk", i, len(c.acked), c.next)
		}
		if err := errors.Join(c.place.Close(m.t.Context()), c.place.Close(m.t.Context())); err != nil {
			rt.Fatalf("close: %v", err)
		}
	}
	if s := m.r.files.Stats(); s.Open != 0 || len(m.r.files.writers) != 0 {
		rt.Fatalf("at the end %d files are open, %d writers there", s.Open, len(m.r.files.writers))
	}
	m.check(rt)
}
