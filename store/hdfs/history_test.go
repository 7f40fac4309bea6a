package hdfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

// A history is a seeded run: appends of random lengths to a file, and faults of
// every kind between them. Whatever happens, what was acknowledged is on the
// cluster, in order, once.
func TestNoHistoryOfFaultsLosesWhatIsAcknowledged(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { history(t, seed) })
		})
	}
}

func history(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	nodes := 1 + r.IntN(5)
	o := Options{Replication: 1 + r.IntN(min(nodes, 3)), BlockSize: int64(1+r.IntN(4)) * 100 << 10, Sync: r.IntN(4) == 0}
	l := newLab(t, hdfstest.Options{DataNodes: nodes, NameNodes: 1 + r.IntN(2), Replication: 3}, o)
	l.ob.calm = r.IntN(2) == 0
	f, err := l.c.Create(l.within(5*time.Second), "_f", cluster.FileOptions{Begin: r.IntN(2) == 0})
	if err != nil {
		t.Fatal(err)
	}
	var acked, failed []byte // failed: of the append that ended the file
	var log []string
	defer func() {
		if t.Failed() {
			for _, s := range log {
				t.Log(s)
			}
		}
	}()
	for range 5 + r.IntN(40) {
		if r.IntN(3) == 0 {
			log = append(log, l.fault(r, nodes))
		}
		b := l.bytes(r.IntN(1 << (4 + r.IntN(14))))
		err := f.Append(l.within(time.Duration(500+r.IntN(3000))*time.Millisecond), l.split(b))
		log = append(log, fmt.Sprintf("append %d: %v", len(b), err))
		if err == nil {
			acked = append(acked, b...)
		}
		if f.Acked() != int64(len(acked)) {
			t.Fatalf("acked %d, want %d", f.Acked(), len(acked))
		}
		if err != nil && !errors.Is(err, cluster.ErrNotTried) {
			failed = b
			break
		}
		if r.IntN(3) == 0 {
			time.Sleep(time.Duration(r.IntN(6000)) * time.Millisecond)
		}
	}
	l.heal(nodes)
	time.Sleep(15 * time.Second)
	if failed == nil && r.IntN(3) > 0 {
		if err = f.Seal(l.within(10 * time.Second)); err != nil {
			log = append(log, fmt.Sprintf("seal: %v", err))
		}
	}
	if failed != nil || err != nil || l.h.Paths()["/logs/_f"] {
		f.Abort()
		l.recover("_f")
	}
	got, _, err := l.h.Content("/logs/_f")
	if err != nil {
		t.Fatal(err)
	}
	if err = same(got[:min(len(got), len(acked))], acked); err != nil {
		t.Fatal(err)
	}
	// What an append that failed has sent may be there, in part.
	if rest := got[len(acked):]; len(rest) > len(failed) || string(rest) != string(failed[:len(rest)]) {
		t.Fatalf("%d bytes behind what was acknowledged, of %d that were sent", len(rest), len(failed))
	}
}

// fault breaks or mends something and says what.
func (l *lab) fault(r *rand.Rand, nodes int) string {
	i := r.IntN(nodes)
	d := l.h.DN(i)
	switch n := r.IntN(12); n {
	case 0:
		d.Freeze()
		return fmt.Sprintf("freeze %d", i)
	case 1, 2:
		d.Thaw()
		return fmt.Sprintf("thaw %d", i)
	case 3:
		d.Kill()
		return fmt.Sprintf("kill %d", i)
	case 4, 5:
		if d.Dead() {
			if err := d.Restart(); err != nil {
				l.t.Fatal(err)
			}
		}
		return fmt.Sprintf("restart %d", i)
	case 6:
		at := r.IntN(5)
		p := []hdfstest.PacketFault{{Reset: true}, {Status: 1}, {Drop: true}, {Garbage: true}, {Seq: 1}}[r.IntN(5)]
		d.Script(func(nth int) hdfstest.PacketFault {
			if nth == at {
				return p
			}
			return hdfstest.PacketFault{}
		})
		return fmt.Sprintf("packet %d of %d: %+v", at, i, p)
	case 7:
		l.h.NN(0).Freeze()
		time.AfterFunc(time.Duration(r.IntN(3000))*time.Millisecond, l.h.NN(0).Thaw)
		return "freeze the NameNode"
	case 8:
		l.h.SafeMode(true)
		time.AfterFunc(time.Duration(r.IntN(3000))*time.Millisecond, func() { l.h.SafeMode(false) })
		return "safe mode"
	case 9:
		which, at := r.IntN(3), 1+r.IntN(3)
		l.h.NN(0).Script(func(_ string, nth int) hdfstest.Fault {
			if nth != at {
				return hdfstest.Fault{}
			}
			return []hdfstest.Fault{{Lose: true}, {Break: true}, {Lose: true, Break: true}}[which]
		})
		return fmt.Sprintf("answer %d of each method: fault %d", at, which)
	case 10:
		l.h.Activate(r.IntN(2))
		time.AfterFunc(time.Duration(r.IntN(2000))*time.Millisecond, func() { l.h.Activate(0) })
		return "another NameNode"
	default:
		l.ob.hold(r.IntN(2) == 0)
		return "hold or let go"
	}
}

// heal ends all faults.
func (l *lab) heal(nodes int) {
	for i := range nodes {
		d := l.h.DN(i)
		d.Thaw()
		d.Script(nil)
		if d.Dead() {
			if err := d.Restart(); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	l.h.SafeMode(false)
	l.h.NN(0).Thaw()
	l.h.NN(0).Script(nil)
	l.h.Activate(0)
	l.ob.hold(false)
}
