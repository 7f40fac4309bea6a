package thrift

import (
	"bytes"
	"context"
	"math"
	"testing"

	athrift "github.com/apache/thrift/lib/go/thrift"
	"pgregory.net/rapid"

	"twinscribe/thrift/gen/fb303"
)

func TestSizesAreThoseOfTheEncoder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var id *BatchID
		if rapid.Bool().Draw(t, "numbered") {
			id = &BatchID{Producer: rapid.String().Draw(t, "producer"), Epoch: 1 << 40, Sequence: 7}
		}
		want := LogSize(id)
		var entries []Entry
		for range rapid.IntRange(0, 5).Draw(t, "entries") {
			e := Entry{
				Category: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "category"),
				Message:  rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "message"),
			}
			entries = append(entries, e)
			want += EntrySize(len(e.Category), len(e.Message))
		}
		if got := len(AppendLog(nil, 1, entries, id)) - 4; got != want {
			t.Fatalf("the frame has %d bytes, %d were foretold", got, want)
		}
	})
}

// TestABatchIDIsSkippedWhereItIsNotKnown reads a call with an id by generated
// code that knows none of its fields, and the call's own as little: what the
// code generated from the original's IDL does with a field it does not know.
func TestABatchIDIsSkippedWhereItIsNotKnown(t *testing.T) {
	frame := AppendLog(nil, 9, []Entry{{[]byte("c"), []byte("m")}}, &BatchID{Producer: "ag1.00000001.7", Epoch: math.MaxUint64, Sequence: 1})
	in := &athrift.TMemoryBuffer{Buffer: bytes.NewBuffer(frame[4:])}
	old := false
	p := athrift.NewTBinaryProtocolConf(in, &athrift.TConfiguration{TBinaryStrictRead: &old})
	ctx := context.Background()
	name, _, seq, err := p.ReadMessageBegin(ctx)
	if name != "Log" || seq != 9 || err != nil {
		t.Fatalf("message %q, %d, %v", name, seq, err)
	}
	if err := fb303.NewFacebookServiceGetNameArgs().Read(ctx, p); err != nil {
		t.Fatal(err)
	}
	if in.Len() != 0 {
		t.Errorf("%d bytes are left", in.Len())
	}
}
