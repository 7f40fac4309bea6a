package hdfs

import (
	"testing"
	"testing/synctest"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

func TestAppendsOfOddLengthsOverManyBlocksAreStoredOnEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, hdfstest.Options{}, Options{})
		for _, size := range []int{1, 511, 512, 513, 700, 5000, 65536, 65537, 200_000, 3 << 20} {
			f := l.create("d/_f", cluster.FileOptions{BlockSize: 1 << 20, Begin: true})
			var want []byte
			for range 12 {
				b := l.bytes(size)
				l.append(f, b)
				want = append(want, b...)
				if f.Acked() != int64(len(want)) {
					t.Fatalf("acked %d of %d", f.Acked(), len(want))
				}
			}
			l.seal(f)
			l.holds("/logs/d/_f", want, 3)
			if err := l.c.Remove(l.ctx, "d/_f"); err != nil {
				t.Fatal(err)
			}
		}
		if n := l.count("recoveries"); n != 0 || l.ob.failures() != 0 {
			t.Fatalf("%d recoveries, failures %v", n, l.ob.failed)
		}
	})
}
