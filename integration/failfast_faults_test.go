//go:build integration

package integration

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"twinscribe/integration/lab"
)

func failFastShort() []machineFault {
	return []machineFault{
		{name: "NameNode black-holed", begin: blackHole("nn"), check: leavesN1},
		{name: "safe mode", begin: safeMode, check: leavesN1},
		{name: "space quota of a category", folder: true, begin: spaceQuota, check: onlyLimitedLeaves},
		slowNode("DataNode answers after 300 ms", 300*time.Millisecond, staysOnN1),
	}
}

func failFastLong() []machineFault {
	return []machineFault{
		{name: "NameNode killed", begin: kill("nn"), check: leavesN1},
		{name: "NameNode stopped", begin: freeze("nn"), check: leavesN1},
		{name: "NameNode black-holed", begin: blackHole("nn"), check: leavesN1},
		{name: "DataNode killed", begin: kill("dn1"), check: staysOnN1},
		{name: "DataNode stopped", begin: freeze("dn1"), check: staysOnN1},
		{name: "DataNode black-holed", begin: blackHole("dn1"), check: staysOnN1},
		{name: "all DataNodes killed", begin: kill("dn1", "dn2", "dn3"), check: allOnN2, hdfsMayLose: true},
		{name: "all DataNodes stopped", begin: freeze("dn1", "dn2", "dn3"), check: allOnN2},
		{name: "all DataNodes black-holed", begin: blackHole("dn1", "dn2", "dn3"), check: allOnN2},
		{name: "safe mode", begin: safeMode, check: leavesN1},
		{name: "space quota of a category", folder: true, begin: spaceQuota, check: onlyLimitedLeaves},
		{name: "no permission for a category", folder: true, begin: noPermission, check: onlyLimitedLeaves},
		diskFull(),
		{name: "machine of both clusters killed", begin: killMachine, check: staysOnN1},
		slowNode("DataNode answers after 300 ms", 300*time.Millisecond, staysOnN1),
		slowNode("DataNode answers after 3 s", 3*time.Second, staysOnN1),
		{name: "both clusters stopped", begin: freezeBoth, check: allInBuffer},
	}
}

// failFastPair are faults of a cluster that has two NameNodes.
func failFastPair(n1 *lab.HA) []machineFault {
	var faults []machineFault
	for _, f := range []haFault{handOver, killActive, stopActive} {
		faults = append(faults, machineFault{
			name: "NameNode failover, " + f.name,
			begin: func(row *failFast) func() {
				active := n1.Active()
				f.take(n1, active)
				return func() {
					// n1 is used again before the other one is back
					lab.Eventually(row, 30*time.Second, "n1 is healthy", func() bool { return clusterState(row.T, row.s, "n1") == "healthy" })
					if f.lost {
						n1.Rejoin(active, 1)
					}
				}
			},
			check: nothingBuffered,
		})
	}
	return faults
}

// kill ends processes of n1; the cluster is whole again once they were started.
func kill(who ...string) func(*failFast) func() {
	return func(f *failFast) func() {
		for _, w := range who {
			f.n1.Do(w, "kill")
		}
		return func() {
			for _, w := range who {
				f.n1.Do(w, "start")
			}
			f.n1.Wait(f.nodes)
		}
	}
}

func freeze(who ...string) func(*failFast) func() {
	return func(f *failFast) func() { return f.signal(f.n1, who...) }
}

// signal stops processes and lets them go on.
func (f *failFast) signal(h *lab.Hadoop, who ...string) func() {
	var pids []int
	for _, w := range who {
		pids = append(pids, h.Pid(w))
	}
	for _, p := range pids {
		h.Signal(p, syscall.SIGSTOP)
	}
	return func() {
		for _, p := range pids {
			h.Signal(p, syscall.SIGCONT)
		}
		h.Wait(f.nodes)
	}
}

func freezeBoth(f *failFast) func() {
	all := []string{"nn", "dn1", "dn2", "dn3"}
	one, two := f.signal(f.n1, all...), f.signal(f.n2, all...)
	return func() { one(); two() }
}

func blackHole(who ...string) func(*failFast) func() {
	return func(f *failFast) func() {
		var ports []int
		for _, w := range who {
			ports = append(ports, f.n1.Ports(w)...)
		}
		hole := lab.StartBlackHole(f, ports...)
		return func() {
			n := hole.End()
			f.Logf("%d packets dropped", n)
			if n == 0 {
				f.Error("no packet was dropped: there was no black hole")
			}
			f.n1.Wait(f.nodes)
		}
	}
}

// killMachine is the loss of a machine that has a DataNode of either cluster.
func killMachine(f *failFast) func() {
	for _, h := range []*lab.Hadoop{f.n1, f.n2} {
		h.Do("dn2", "kill")
	}
	return func() {
		for _, h := range []*lab.Hadoop{f.n1, f.n2} {
			h.Do("dn2", "start")
			h.Wait(f.nodes)
		}
	}
}

func safeMode(f *failFast) func() {
	f.n1.CLI("dfsadmin", "-safemode", "enter")
	return func() { f.n1.CLI("dfsadmin", "-safemode", "leave") }
}

// folderOfLimited makes the folder of the category that suffers alone.
func (f *failFast) folderOfLimited() {
	f.n1.Admin(f, "MKDIRS", f.root+"/"+limited)
	for _, folder := range []string{f.root, f.root + "/" + limited} {
		f.n1.Admin(f, "SETOWNER", folder, "owner="+writer)
	}
}

func spaceQuota(f *failFast) func() {
	f.n1.Admin(f, "SETQUOTA", f.root+"/"+limited, "storagespacequota=1")
	return func() { f.n1.Admin(f, "SETQUOTA", f.root+"/"+limited, "storagespacequota=-1", "namespacequota=-1") }
}

func noPermission(f *failFast) func() {
	folder := f.root + "/" + limited
	f.n1.Admin(f, "SETOWNER", folder, "owner="+lab.User())
	f.n1.Admin(f, "SETPERMISSION", folder, "permission=700")
	return func() { f.n1.Admin(f, "SETOWNER", folder, "owner="+writer) }
}

// diskFull fills the disk of one DataNode, which has one for itself.
func diskFull() machineFault {
	var disk *lab.SmallDisk
	return machineFault{
		name:   "disk of a DataNode full",
		before: func(f *failFast) { disk = f.n1.StartSmallDisk(f, "dn3", "384m", f.nodes) },
		begin: func(f *failFast) func() {
			filler := filepath.Join(disk.Folder, "filler")
			n, err := fill(filler)
			f.Logf("%d MiB fill the disk: %v", n>>20, err)
			return func() {
				os.Remove(filler)
				f.n1.Do("dn3", "start") // one whose disk fails may have ended itself
				f.n1.Wait(f.nodes)
			}
		},
		check: staysOnN1,
		after: func(f *failFast) {
			if disk != nil {
				disk.End()
				f.n1.Do("dn3", "start")
				f.n1.Wait(f.nodes)
			}
		},
	}
}

// fill writes a file until its disk is full.
func fill(name string) (n int64, err error) {
	w, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer w.Close()
	block := make([]byte, 64<<10)
	for {
		m, err := w.Write(block)
		if n += int64(m); err != nil {
			return n, err
		}
	}
}

// slowNode lets the answers of one DataNode wait.
func slowNode(name string, delay time.Duration, check func(*failFast, outcome)) machineFault {
	var node *lab.SlowNode
	return machineFault{
		name:   name,
		before: func(f *failFast) { node = f.n1.StartSlowNode(f.T, "dn1", f.nodes) },
		begin: func(f *failFast) func() {
			node.Delay(delay)
			return func() { node.Delay(0) }
		},
		check: check,
		after: func(f *failFast) {
			if node != nil {
				node.End(f.nodes)
			}
		},
	}
}

// leavesN1: what needs a new file goes to n2, and nothing to the buffer once n1 is known to be away.
func leavesN1(f *failFast, o outcome) {
	if len(o.states) == 1 {
		f.Errorf("n1 was %v throughout", slices.Sorted(maps.Keys(o.states)))
	}
	if o.settled["n2"].Messages == 0 || o.settled["buffer"].Messages > 0 {
		f.Errorf("settled to %v, want new files on n2 and none in the buffer", o.settled)
	}
}

// nothingBuffered: there is always a cluster that takes everything.
func nothingBuffered(f *failFast, o outcome) {
	if o.settled["buffer"].Messages > 0 || len(o.settled) == 0 {
		f.Errorf("settled to %v, want none in the buffer", o.settled)
	}
}

// allOnN2: nothing goes to n1 or to the buffer once n1 is known to be away.
func allOnN2(f *failFast, o outcome) {
	if !o.only("n2") {
		f.Errorf("settled to %v, want all on n2", o.settled)
	}
}

// staysOnN1: there are nodes enough, and no file is lost.
func staysOnN1(f *failFast, o outcome) {
	if !o.only("n1") {
		f.Errorf("settled to %v, want all on n1", o.settled)
	}
}

// onlyLimitedLeaves: an error about one path does not concern the cluster.
func onlyLimitedLeaves(f *failFast, o outcome) {
	if len(o.states) != 1 || !o.states["healthy"] {
		f.Errorf("n1 was %s, want it healthy throughout", strings.Join(slices.Sorted(maps.Keys(o.states)), ", "))
	}
	if o.limited["n2"].Messages == 0 || o.stored.away("n1") != o.limited.away("n1") {
		f.Errorf("of all %v, of category %s %v: want the latter on n2 and the others on n1", o.stored, limited, o.limited)
	}
}

// allInBuffer: the only place that is left.
func allInBuffer(f *failFast, o outcome) {
	if !o.only("buffer") {
		f.Errorf("settled to %v, want all in the buffer", o.settled)
	}
}
