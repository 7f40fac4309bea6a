package lab

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// HA is a cluster with a pair of NameNodes, nn and nn2, of which one at most is
// active. Who it is is said by hand: nothing fails over by itself, and nothing
// fences the other one.
type HA struct {
	*Hadoop
	Addrs map[string]string // of nn and of nn2
}

// StartHA is StartHadoop for a pair; nn is the active one.
func StartHA(t testing.TB, name string, dataNodes int, props ...string) *HA {
	t.Helper()
	t.Setenv("HDFS_HA", "1")
	h := StartHadoop(t, name, dataNodes, props...)
	t.Setenv("HDFS_HA", "") // the test's other clusters are plain ones
	a := &HA{Hadoop: h, Addrs: map[string]string{}}
	for _, who := range []string{"nn", "nn2"} {
		a.Addrs[who] = a.ask(who, "addr")
	}
	return a
}

// Other is the other NameNode of the pair.
func (a *HA) Other(who string) string {
	if who == "nn" {
		return "nn2"
	}
	return "nn"
}

// Active is the NameNode that says that it is active; empty while none does.
func (a *HA) Active() string {
	a.t.Helper()
	for _, who := range []string{"nn", "nn2"} {
		if a.ask(who, "role") == "active" {
			return who
		}
	}
	return ""
}

// Failover makes one stand by and then the other one active. Both live.
func (a *HA) Failover(from, to string) {
	a.t.Helper()
	a.CLI("haadmin", "-failover", from, to)
}

// Activate makes one active although the other one does not answer.
func (a *HA) Activate(who string) {
	a.t.Helper()
	a.CLI("haadmin", "-transitionToActive", "--forceactive", who)
}

// Rejoin starts a NameNode as the standby, after it was killed or stopped, and waits until it
// is out of safe mode. One that was stopped is killed first: it would go on as an active one.
func (a *HA) Rejoin(who string, dataNodes int) {
	a.t.Helper()
	a.Do(who, "kill")
	a.Do(who, "start")
	if out, err := a.script(3*time.Minute, "hdfs-proc", a.Name, who, "wait", strconv.Itoa(dataNodes), "120"); err != nil {
		a.t.Fatalf("%s %s wait: %v\n%s", a.Name, who, err, out)
	}
}

// ask is hdfs-proc with an answer of one word.
func (a *HA) ask(who, what string) string {
	a.t.Helper()
	out, err := a.script(time.Minute, "hdfs-proc", a.Name, who, what)
	if err != nil {
		a.t.Fatalf("%s %s %s: %v\n%s", a.Name, who, what, err, out)
	}
	return strings.TrimSpace(out)
}
