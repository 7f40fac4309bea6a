package main

import (
	"bytes"
	"strings"
	"testing"

	"twinscribe/daemon"
)

func TestTheStatusNamesSpoolsThatAreBehindAndTheServersBehindThem(t *testing.T) {
	var out bytes.Buffer
	printStatus(&out, &daemon.Status{
		Spools: []daemon.SpoolsStatus{{
			Path: "/spool", Bytes: 1000, Limit: 5000, Chains: 3, Waiting: 12, Files: 2, FileBytes: 70, Omitted: 4,
			Behind: []daemon.SpoolStatus{
				{Category: "web", Part: -1, State: "DISCONNECTED", SinceSeconds: 90, Waiting: 10, LastError: "a:1463: refused"},
				{Category: "api", Route: 1, Part: 7, State: "SENDING_BUFFER", SinceSeconds: 2, Waiting: 2, Problem: "a file cannot be read"},
			},
		}},
		Network: []daemon.NetworkStatus{{
			State: "down", Chains: 3, LastError: "refused",
			Servers: []daemon.NetworkServerStatus{{Address: "a:1463", Sick: true, Sent: 7, Tries: 9, TryLater: 1, Failed: 1}},
		}},
	})
	for _, want := range []string{
		"spools in /spool: 1000 of 5000 bytes, 12 messages wait, and 2 files of Scribe's with 70 bytes\n",
		"  \"web\": DISCONNECTED for 1m30s, 10 messages wait; last error: a:1463: refused\n",
		"  \"api\" store 2 part 7: SENDING_BUFFER for 2s, 2 messages wait; problem: a file cannot be read\n",
		"  and 4 more\n",
		"forwarding: down, 3 chains\n",
		"  a:1463 does not answer; messages sent 7, calls 9, refused 1, failed 1\n",
		"  last error: refused\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "clusters:") {
		t.Errorf("there are no clusters, and it says\n%s", out.String())
	}
}
