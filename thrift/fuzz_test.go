package thrift

import (
	"bytes"
	"context"
	"errors"
	"math"
	"runtime/metrics"
	"testing"

	athrift "github.com/apache/thrift/lib/go/thrift"

	"twinscribe/thrift/gen/scribe"
)

// generated decodes the body of a Log call with the generated code. It fails
// for bytes that are left over, as ours does.
func generated(body []byte) (*scribe.ScribeLogArgs, error) {
	in := &athrift.TMemoryBuffer{Buffer: bytes.NewBuffer(bytes.Clone(body))}
	p := athrift.NewTBinaryProtocolConf(in, &athrift.TConfiguration{MaxMessageSize: int32(len(body)), MaxFrameSize: math.MaxInt32})
	ctx := context.Background()
	if _, _, _, err := p.ReadMessageBegin(ctx); err != nil {
		return nil, err
	}
	args := scribe.NewScribeLogArgs()
	if err := args.Read(ctx, p); err != nil {
		return nil, err
	}
	if in.Len() > 0 {
		return nil, errors.New("bytes left over")
	}
	return args, nil
}

// allocated is what do takes from the heap, other goroutines' share included.
func allocated(do func()) uint64 {
	at := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	before := at()
	do()
	return at() - before
}

// FuzzDecodeLog holds our decoder against the generated one: what both accept
// must be the same call, and ours accepts nothing that the other one refuses.
func FuzzDecodeLog(f *testing.F) {
	for _, seed := range [][]byte{
		logCall(1),
		logCall(1, entryOf("a", "1"), entryOf("", "")),
		join(strictHeader("Log", 1, 9), listOf(1, join(fieldOf(13, 7), 11, 8, u32(1), text("k"), u32(1), textField(2, "2"), 0)), 0),
		join(oldHeader("Log", 1, 9), fieldOf(12, 2), textField(1, "p"), fieldOf(10, 2), u64(3), fieldOf(10, 3), u64(4), 0, 0),
		join(oldHeader("Log", 1, 9), listOf(15_000_000), 0),
		join(oldHeader("Log", 1, 9), fieldOf(15, 9), 15, u32(1), 14, u32(1), 16, u32(1), u64(1), u64(2), 0),
		join(oldHeader("Log", 1, 9), listOf(1, join(fieldOf(11, 1), u32(-1), 0)), 0),
		join(oldHeader("Log", 1, 9), listOf(2, entryOf("a", "1"), join(textField(2, "1"), textField(2, "22"), 0)), listOf(1, entryOf("b", "2")), 0),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var call *Call
		var err error
		if n := allocated(func() { call, err = decodeBody(newDecoder(1000), body) }); n > uint64(64*len(body))+1<<20 {
			t.Fatalf("%d bytes are taken for a call of %d", n, len(body))
		}
		if err != nil {
			return
		}
		args, err := generated(body)
		if err != nil {
			t.Fatalf("ours takes what the generated code refuses: %v", err)
		}
		if len(args.Messages) != len(call.Entries) {
			t.Fatalf("%d entries, generated code has %d", len(call.Entries), len(args.Messages))
		}
		total := 0
		for i, m := range args.Messages {
			e := call.Entries[i]
			if m.Category != string(e.Category) || m.Message != string(e.Message) {
				t.Errorf("entry %d: %q, generated code has %q, %q", i, e, m.Category, m.Message)
			}
			total += len(m.Message)
		}
		if call.Bytes != total {
			t.Errorf("%d bytes of messages, the entries have %d", call.Bytes, total)
		}
		b := args.Batch
		if b == nil || b.GetProducer() == "" {
			if call.Batch != nil {
				t.Errorf("batch id %v without a producer", call.Batch)
			}
			return
		}
		want := BatchID{b.GetProducer(), uint64(b.GetEpoch()), uint64(b.GetSequence())}
		if call.Batch == nil || *call.Batch != want {
			t.Errorf("batch id %v, generated code has %v", call.Batch, want)
		}
	})
}

// FuzzDecodeLogReply holds the client's decoder against the generated one.
func FuzzDecodeLogReply(f *testing.F) {
	f.Add(logAnswer(1, 0)[4:])
	f.Add(logAnswer(-1, 1)[4:])
	f.Add(join(strictHeader("Log", 2, 5), fieldOf(8, 0), u32(1), textField(3, "x"), 0))
	f.Add(exceptionFrame("Log", 3, "no", 7)[4:])
	f.Add(join(oldHeader("Log", 2, 5), 0))
	f.Fuzz(func(t *testing.T, body []byte) {
		seq, result, err := DecodeLogReply(body)
		exception, is := errors.AsType[*Exception](err)
		if err != nil && !is {
			return
		}
		p := athrift.NewTBinaryProtocolConf(&athrift.TMemoryBuffer{Buffer: bytes.NewBuffer(bytes.Clone(body))}, nil)
		reply := scribe.NewScribeLogResult()
		err = athrift.NewTStandardClient(nil, nil).Recv(context.Background(), p, seq, "Log", reply)
		if app, isApp := errors.AsType[athrift.TApplicationException](err); is && (!isApp || app.TypeId() != exception.Type) {
			t.Fatalf("%v, generated code has %v", exception, err)
		}
		if !is && (err != nil || int64(reply.GetSuccess()) != int64(result)) {
			t.Fatalf("result %d, generated code has %v, %v", result, reply, err)
		}
	})
}
