package dir

import (
	"fmt"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/store/cluster"
)

var nop = zap.NewNop()

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("batch=%dKiB", size>>10), func(b *testing.B) {
			c, err := New(Options{Name: "n1", Path: filepath.Join(b.TempDir(), "root"), Create: true,
				FS: vfs.OS(), Observer: &observer{}, Log: nop})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			f, err := c.Create(b.Context(), "file", cluster.FileOptions{})
			if err != nil {
				b.Fatal(err)
			}
			p := [][]byte{make([]byte, size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := f.Append(b.Context(), p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
