package store

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestBucketsHaveScribesNumbers(t *testing.T) {
	for _, c := range []struct {
		name    string
		b       Buckets
		message string
		bucket  int
		skip    int
	}{
		{"hash", Buckets{By: ByHash, N: 3, Delimiter: ':'}, "a:x", 177670%3 + 1, 0}, // 5381*33+97
		{"hash of two", Buckets{By: ByHash, N: 1000, Delimiter: ':'}, "ab:x", (177670*33+98)%1000 + 1, 0},
		{"hash, a sign", Buckets{By: ByHash, N: 1000, Delimiter: ':'}, "\xff:x", (5381*33-1)%1000 + 1, 0},
		{"hash, beyond 32 bits", Buckets{By: ByHash, N: 7, Delimiter: ':'}, "hello:x", 261238937%7 + 1, 0},
		{"hash, cut at NUL", Buckets{By: ByHash, N: 3, Delimiter: ':'}, "a\x00b:x", 177670%3 + 1, 0},
		{"no delimiter", Buckets{By: ByHash, N: 3, Delimiter: ':', RemoveKey: true}, "abc", 0, 0},
		{"no key", Buckets{By: ByHash, N: 3, Delimiter: ':', RemoveKey: true}, ":abc", 0, 1},
		{"removed", Buckets{By: ByHash, N: 3, Delimiter: ':', RemoveKey: true}, "a:x", 177670%3 + 1, 2},
		{"modulo", Buckets{By: ByModulo, N: 5, Delimiter: '|'}, "12|x", 3, 0},
		{"modulo, behind blanks", Buckets{By: ByModulo, N: 5, Delimiter: '|'}, " +12z|x", 3, 0},
		{"modulo, no number", Buckets{By: ByModulo, N: 5, Delimiter: '|'}, "x|x", 1, 0},
		{"modulo, below 0", Buckets{By: ByModulo, N: 5, Delimiter: '|'}, "-1|x", 1, 0}, // 2^64-1 is a multiple of 5
		{"modulo, too large", Buckets{By: ByModulo, N: 10, Delimiter: '|'}, "99999999999999999999|x", 8, 0},
		{"range", Buckets{By: ByRange, N: 4, Delimiter: ':', Range: 100}, "25:x", 2, 0},
		{"range, its end", Buckets{By: ByRange, N: 4, Delimiter: ':', Range: 100}, "99:x", 4, 0},
		{"range, beyond it", Buckets{By: ByRange, N: 4, Delimiter: ':', Range: 100}, "100:x", 1, 0},
		{"range, huge", Buckets{By: ByRange, N: 4, Delimiter: ':', Range: 1<<63 - 1}, "9223372036854775806:x", 4, 0},
		{"range of nothing", Buckets{By: ByRange, N: 4, Delimiter: ':'}, "25:x", 0, 0},
		{"context", Buckets{By: ByContext, N: 10, Delimiter: ':'}, "a\x01b\x01c\x0123\x01d", 4, 0},
		{"context, two marks", Buckets{By: ByContext, N: 10, Delimiter: ':'}, "a\x01b\x0123", 0, 0},
		{"context, none", Buckets{By: ByContext, N: 10, Delimiter: ':'}, "a\x01b\x01c\x01\x01", 0, 0},
		{"context, 0", Buckets{By: ByContext, N: 10, Delimiter: ':'}, "a\x01b\x01c\x010", 0, 0},
		{"context, 32 bits", Buckets{By: ByContext, N: 10, Delimiter: ':'}, "a\x01b\x01c\x014294967299", 4, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bucket, skip := c.b.Of([]byte(c.message))
			if bucket != c.bucket || skip != c.skip {
				t.Errorf("bucket %d, %d bytes not stored; want %d, %d", bucket, skip, c.bucket, c.skip)
			}
		})
	}
}

func TestEveryMessageHasABucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Buckets{
			By: rapid.SampledFrom([]string{ByHash, ByModulo, ByRange, ByContext, ByRandom}).Draw(t, "by"),
			N:  rapid.IntRange(1, 1000).Draw(t, "n"), Delimiter: rapid.Byte().Draw(t, "delimiter"),
			Range: rapid.Uint64().Draw(t, "range"), RemoveKey: rapid.Bool().Draw(t, "remove"),
		}
		m := rapid.SliceOf(rapid.SampledFrom([]byte("\x00\x01:-+ 0123456789a\xff"))).Draw(t, "message")
		bucket, skip := b.Of(m)
		if bucket < 0 || bucket > b.N || skip < 0 || skip > len(m) {
			t.Fatalf("bucket %d of %d, %d of %d bytes not stored", bucket, b.N, skip, len(m))
		}
		if again, _ := b.Of(m); again != bucket && b.By != ByRandom {
			t.Fatalf("bucket %d, then %d", bucket, again)
		}
		if skip > 0 && (m[skip-1] != b.Delimiter || bytes.IndexByte(m[:skip-1], b.Delimiter) >= 0) {
			t.Fatalf("%q are not its key and delimiter", m[:skip])
		}
	})
}
