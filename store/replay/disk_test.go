package replay

import (
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/framed"
	"twinscribe/buffer/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The file systems of the other tests are models; this is the real one.
func TestOnARealDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spools")
	p := &primary{}
	framedFile(t, vfs.OS(), filepath.Join(path, "web"), "web", 0, "old 1\n", "old 2\n")
	for start := uint32(1); start <= 3; start++ {
		spools, err := OpenSpools(vfs.OS(), path, SpoolsOptions{
			Identity: buffer.Identity{Aggregator: "leaf", Epoch: start, Start: start}, MinFree: -1, Log: zap.NewNop(), Now: time.Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		spool, err := spools.Spool(SpoolOptions{Dir: "web", Sync: start == 1, Framed: Framed{
			Folder: filepath.Join(path, "web"), Base: "web", Form: framed.OneFrame, Category: "web",
		}})
		if err != nil {
			t.Fatal(err)
		}
		c := &chain{Store: New(p, spool, Options{}), t: t, spools: spools, primary: p, next: 1}
		switch start {
		case 1, 2:
			c.put(numbered(int(start)*10, int(start)*10+2)...) // behind what is left
		case 3:
			c.tick()
			<-c.done
			c.wantState(Streaming)
			if used, _ := spools.Bytes(); used != 0 {
				t.Errorf("%d bytes are left", used)
			}
		}
		c.end()
	}
	p.want(t, "old 1", "old 2", "m10", "m11", "m20", "m21")
}
