package lab

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// A SlowNode is a DataNode with a proxy in front of its data port, through which its cluster
// and all clients reach it.
type SlowNode struct {
	t     testing.TB
	h     *Hadoop
	who   string
	proxy *toxiproxy.Proxy
}

// StartSlowNode starts a DataNode anew behind a proxy that does not delay anything yet.
func (h *Hadoop) StartSlowNode(t *testing.T, who string, dataNodes int) *SlowNode {
	t.Helper()
	h.Do(who, "kill")
	t.Setenv("HDFS_DN_HOST", "127.0.0.2") // the NameNode goes on naming 127.0.0.1
	h.Do(who, "start")
	t.Setenv("HDFS_DN_HOST", "")
	n := &SlowNode{t: t, h: h, who: who}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n.proxy = toxiproxy.NewProxy(server, h.Name+who, host("127.0.0.1", h.Port(who)), host("127.0.0.2", h.Port(who)))
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := n.proxy.Start()
		if err == nil {
			break
		}
		if time.Now().After(deadline) { // the sockets of a process that was killed live on for a moment
			t.Fatal(err)
		}
	}
	t.Cleanup(n.proxy.Stop)
	h.Wait(dataNodes)
	return n
}

// Delay lets every byte from the node, its answers, wait so long. 0: none.
func (n *SlowNode) Delay(d time.Duration) {
	n.t.Helper()
	if d == 0 {
		n.proxy.Toxics.ResetToxics(context.Background())
		return
	}
	toxic := fmt.Sprintf(`{"name": "slow", "type": "latency", "stream": "downstream", "attributes": {"latency": %d}}`, d.Milliseconds())
	if _, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		n.t.Fatal(err)
	}
}

// End starts the DataNode anew without a proxy.
func (n *SlowNode) End(dataNodes int) {
	n.h.Do(n.who, "kill")
	n.proxy.Stop()
	n.h.Do(n.who, "start")
	n.h.Wait(dataNodes)
}
