package thrift

import (
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// grants lets a call have everything, or nothing.
type grants bool

func (g grants) reserve(int) bool { return bool(g) }

func newDecoder(max int) *decoder { return &decoder{maxEntries: max, account: grants(true)} }

// decodeBody decodes the body of a Log call.
func decodeBody(d *decoder, b []byte) (*Call, error) {
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	return d.decode(b, h.args)
}

func TestDecoderTakesEveryFormOfACall(t *testing.T) {
	a, b := entryOf("a", "1"), entryOf("b", "2")
	extra := join( // one field of each type, none of which Log knows
		fieldOf(2, 9), 1, fieldOf(3, 9), 7, fieldOf(4, 9), u64(1), fieldOf(6, 9), u16(1), fieldOf(8, 9), u32(1),
		fieldOf(10, 9), u64(1), textField(9, "x"), fieldOf(12, 9), textField(1, "y"), 0,
		fieldOf(13, 9), 11, 8, u32(2), text("k"), u32(1), text("l"), u32(2),
		fieldOf(14, 9), 10, u32(1), u64(3), fieldOf(15, 9), 12, u32(2), 0, 0,
		fieldOf(15, 9), 13, u32(1), 8, 8, u32(0), fieldOf(16, 9), u64(1), u64(2))
	batch := func(fields ...any) []byte { return join(fieldOf(12, 2), join(fields...), 0) }
	producer, epoch, sequence := textField(1, "web1"), join(fieldOf(10, 2), u64(7)), join(fieldOf(10, 3), u64(1<<63+5))
	for name, c := range map[string]struct {
		args  []byte
		want  []string
		bytes int
		batch *BatchID
	}{
		"two entries":              {args: join(listOf(2, a, b), 0), want: []string{"a=1", "b=2"}, bytes: 2},
		"no entries":               {args: join(listOf(0), 0)},
		"no entries of no type":    {args: join(fieldOf(15, 1), 0, u32(0), 0)},
		"no argument at all":       {args: join(0)},
		"message before category":  {args: join(listOf(1, join(textField(2, "m"), textField(1, "c"), 0)), 0), want: []string{"c=m"}, bytes: 1},
		"empty strings":            {args: join(listOf(1, entryOf("", "")), 0), want: []string{"="}},
		"nothing in an entry":      {args: join(listOf(2, []byte{0}, a), 0), want: []string{"=", "a=1"}, bytes: 1},
		"unknown fields in entry":  {args: join(listOf(1, join(textField(1, "c"), extra, textField(2, "m"), extra, 0)), 0), want: []string{"c=m"}, bytes: 1},
		"unknown fields in call":   {args: join(extra, listOf(1, a), extra, 0), want: []string{"a=1"}, bytes: 1},
		"field twice, last counts": {args: join(listOf(1, join(textField(2, "long"), textField(2, "m"), textField(1, "c"), 0)), 0), want: []string{"c=m"}, bytes: 1},
		"list twice, last counts":  {args: join(listOf(2, a, a), listOf(1, b), 0), want: []string{"b=2"}, bytes: 1},
		"bytes of any kind":        {args: join(listOf(1, entryOf("\x00/..", "\xff\n\x00")), 0), want: []string{"\x00/..=\xff\n\x00"}, bytes: 3},
		"batch id": {args: join(listOf(1, a), batch(producer, epoch, sequence), 0), want: []string{"a=1"}, bytes: 1,
			batch: &BatchID{"web1", 7, 1<<63 + 5}},
		"batch id first, with more fields": {args: join(batch(extra, sequence, producer), listOf(1, a), 0), want: []string{"a=1"}, bytes: 1,
			batch: &BatchID{"web1", 0, 1<<63 + 5}},
		"batch id twice, last counts": {args: join(batch(producer, epoch), batch(producer, sequence), 0), batch: &BatchID{"web1", 0, 1<<63 + 5}},
		"batch id without producer":   {args: join(batch(producer), batch(epoch, sequence), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			for form, header := range map[string][]byte{"old": oldHeader("Log", 1, 5), "strict": strictHeader("Log", 1, 5)} {
				call, err := decodeBody(newDecoder(10), join(header, c.args))
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				if got := messagesOf(call); !slices.Equal(got, c.want) {
					t.Errorf("%s: entries %q, want %q", form, got, c.want)
				}
				if call.Bytes != c.bytes {
					t.Errorf("%s: %d bytes of messages, want %d", form, call.Bytes, c.bytes)
				}
				if !reflect.DeepEqual(call.Batch, c.batch) {
					t.Errorf("%s: batch id %v, want %v", form, call.Batch, c.batch)
				}
			}
		})
	}
}

func TestDecoderTellsMissingFieldsFromEmptyOnes(t *testing.T) {
	call, err := decodeBody(newDecoder(10), logCall(1, []byte{0}, entryOf("", ""), join(textField(1, "c"), 0)))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][2]bool{{true, true}, {false, false}, {false, true}} {
		if got := [2]bool{call.Entries[i].Category == nil, call.Entries[i].Message == nil}; got != want {
			t.Errorf("entry %d: nil category, nil message = %v, want %v", i, got, want)
		}
	}
}

func TestDecoderRefusesWhatIsNoCall(t *testing.T) {
	entry := entryOf("a", "1")
	deep := func(n int) []byte {
		return join(strings.Repeat("\x0c\x00\x09", n), strings.Repeat("\x00", n))
	}
	for name, c := range map[string]struct {
		args []byte
		kind badKind
	}{
		"nothing":                          {nil, badLength},
		"no stop":                          {listOf(1, entry), badLength},
		"bytes left over":                  {join(listOf(1, entry), 0, 0), badTrailing},
		"a second call glued on":           {join(listOf(1, entry), 0, logCall(2, entry)), badTrailing},
		"string longer than the frame":     {join(listOf(1, join(textField(1, "a"), fieldOf(11, 2), u32(2000), "1", 0)), 0), badLength},
		"category to the frame's last":     {join(listOf(1, join(fieldOf(11, 1), u32(5), "a", 0)), 0), badLength},
		"negative string":                  {join(listOf(1, join(fieldOf(11, 1), u32(-1), "a", 0)), 0), badLength},
		"negative message":                 {join(listOf(1, join(textField(1, "a"), fieldOf(11, 2), u32(-1), 0)), 0), badLength},
		"largest string":                   {join(listOf(1, join(fieldOf(11, 1), u32(0x7fffffff), "a", 0)), 0), badLength},
		"negative list":                    {join(listOf(-1, entry), 0), badLength},
		"more entries than bytes":          {join(listOf(9, entry), 0)[:14], badLength},
		"more entries than there are":      {join(listOf(3, entry), 0), badLength},
		"too many entries":                 {join(listOf(11, slices.Repeat([][]byte{{0}}, 11)...), 0), badEntries},
		"messages are no list":             {join(textField(1, "x"), 0), badType},
		"messages are a set":               {join(fieldOf(14, 1), 12, u32(0), 0), badType},
		"a list of strings":                {join(fieldOf(15, 1), 11, u32(1), text("x"), 0), badType},
		"category is a number":             {join(listOf(1, join(fieldOf(8, 1), u32(1), 0)), 0), badType},
		"message is a struct":              {join(listOf(1, join(fieldOf(12, 2), 0, 0)), 0), badType},
		"a type that does not exist":       {join(fieldOf(5, 9), 0), badType},
		"a list of a type there is not":    {join(fieldOf(15, 9), 0, u32(1), 0, 0), badType},
		"a map to a type there is not":     {join(fieldOf(13, 9), 8, 0, u32(1), u32(1), 0, 0), badType},
		"unknown string beyond the frame":  {join(fieldOf(11, 9), u32(9), "x", 0), badLength},
		"unknown list beyond the frame":    {join(fieldOf(15, 9), 10, u32(3), u64(1), 0), badLength},
		"unknown map beyond the frame":     {join(fieldOf(13, 9), 10, 10, u32(1), u64(1), 0), badLength},
		"unknown map without a size":       {join(fieldOf(13, 9), 10), badLength},
		"unknown number beyond the frame":  {join(fieldOf(10, 9), u32(3)), badLength},
		"half a field":                     {join(15, 0), badLength},
		"nested 65 deep":                   {join(deep(65), 0), badDepth},
		"nested 10,000 deep":               {join(deep(10_000), 0), badDepth},
		"lists nested 10,000 deep":         {join(fieldOf(15, 9), strings.Repeat("\x0f\x00\x00\x00\x01", 10_000), 0), badDepth},
		"nested 10,000 deep in an entry":   {join(listOf(1, join(deep(10_000), 0)), 0), badDepth},
		"batch is no struct":               {join(textField(2, "x"), 0), badType},
		"producer is a number":             {join(fieldOf(12, 2), fieldOf(10, 1), u64(1), 0, 0), badType},
		"epoch is a string":                {join(fieldOf(12, 2), textField(2, "1"), 0, 0), badType},
		"sequence of four bytes":           {join(fieldOf(12, 2), fieldOf(10, 3), u32(1)), badLength},
		"producer of 257 bytes":            {join(fieldOf(12, 2), textField(1, strings.Repeat("p", 257)), 0, 0), badProducer},
		"unknown field of batch is broken": {join(fieldOf(12, 2), fieldOf(11, 9), u32(-5), 0, 0), badLength},
	} {
		t.Run(name, func(t *testing.T) {
			call, err := decodeBody(newDecoder(10), join(oldHeader("Log", 1, 5), c.args))
			var b *badFrame
			if !errors.As(err, &b) || b.kind != c.kind {
				t.Errorf("call %v, error %v, want one of kind %v", call, err, c.kind)
			}
		})
	}
}

func TestDecoderSkipsAsDeepAsItSays(t *testing.T) {
	args := join(strings.Repeat("\x0c\x00\x09", maxDepth), strings.Repeat("\x00", maxDepth), 0)
	if _, err := newDecoder(10).decode(args, 0); err != nil {
		t.Errorf("%d deep: %v", maxDepth, err)
	}
}

func TestEveryCutOfACallIsRefused(t *testing.T) {
	whole := join(strictHeader("Log", 1, 9), listOf(2, entryOf("a", "1"), join(fieldOf(13, 7), 11, 8, u32(1), text("k"), u32(1), textField(2, "2"), 0)),
		fieldOf(12, 2), textField(1, "p"), 0, 0)
	if _, err := decodeBody(newDecoder(10), whole); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if call, err := decodeBody(newDecoder(10), whole[:n:n]); err == nil {
			t.Errorf("the first %d of %d bytes gave %v", n, len(whole), messagesOf(call))
		}
	}
}

func TestHeadersThatAreNone(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":               {},
		"three bytes":           {0, 0, 0},
		"another version":       join(0x80, 0x02, 0, 1, text("Log"), u32(1), 0),
		"name beyond the frame": join(u32(40), "Log", 1, u32(1), 0),
		"name of 65 bytes":      join(oldHeader(strings.Repeat("n", 65), 1, 1), 0),
		"name of 1 MB":          join(oldHeader(strings.Repeat("n", 1<<20), 1, 1), 0),
		"strict, no name":       {0x80, 1, 0, 1},
		"strict, negative name": join(0x80, 1, 0, 1, u32(-1), "Log", u32(1), 0),
		"no sequence":           join(text("Log"), 1, 0, 0),
	} {
		var bf *badFrame
		if h, err := parseHeader(b); !errors.As(err, &bf) || bf.kind != badHeader {
			t.Errorf("%s: header %+v, error %v", name, h, err)
		}
	}
	for _, name := range []string{"", strings.Repeat("n", 64)} {
		h, err := parseHeader(oldHeader(name, 4, -7))
		if err != nil || string(h.name) != name || h.kind != 4 || h.seq != -7 {
			t.Errorf("name %q: %+v, %v", name, h, err)
		}
	}
}

func TestMillionsOfEmptyEntriesCostNoMemory(t *testing.T) {
	const n = 15_000_000
	frame := join(oldHeader("Log", 1, 1), listOf(n), make([]byte, n+1))
	d := newDecoder(100_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decodeBody(d, frame)
	runtime.ReadMemStats(&after)
	var b *badFrame
	if !errors.As(err, &b) || b.kind != badEntries {
		t.Fatalf("error %v, want too many entries", err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<10 {
		t.Errorf("refusing it took %d bytes", took)
	}
}

func TestEntriesThatTheAccountDoesNotGrantAreBusy(t *testing.T) {
	d := &decoder{maxEntries: 10, account: grants(false)}
	if _, err := decodeBody(d, logCall(1, entryOf("a", "b"))); !errors.Is(err, errBusy) {
		t.Errorf("error %v, want busy", err)
	}
	if d.entries != nil {
		t.Error("memory was taken all the same")
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	es := slices.Repeat([][]byte{entryOf("category", strings.Repeat("m", 200))}, 100)
	odd := join(textField(2, "m"), fieldOf(10, 9), u64(1), textField(1, "c"), 0)
	body := join(strictHeader("Log", 1, 1), listOf(101, append(es, odd)...),
		fieldOf(12, 2), textField(1, "producer"), fieldOf(10, 2), u64(1), fieldOf(10, 3), u64(1), 0, 0)
	d := newDecoder(1000)
	n := testing.AllocsPerRun(100, func() {
		if _, err := decodeBody(d, body); err != nil {
			t.Fatal(err)
		}
		d.clear()
	})
	if n != 0 {
		t.Errorf("%v allocations for a call", n)
	}
}

func TestAClearedDecoderHoldsNothingOfTheFrame(t *testing.T) {
	d := newDecoder(100_000)
	if _, err := decodeBody(d, join(oldHeader("Log", 1, 1), listOf(3, entryOf("a", "b"), entryOf("c", "d"), entryOf("e", "f")), listOf(1, entryOf("g", "h")), 0)); err != nil {
		t.Fatal(err)
	}
	d.clear()
	for i, e := range d.entries[:cap(d.entries)] {
		if e.Category != nil || e.Message != nil {
			t.Errorf("entry %d is still %q", i, e)
		}
	}
	if _, err := decodeBody(d, logCall(1, slices.Repeat([][]byte{{0}}, keptEntries+1)...)); err != nil {
		t.Fatal(err)
	}
	d.clear()
	if cap(d.entries) > keptEntries {
		t.Errorf("a slice of %d entries is kept", cap(d.entries))
	}
}

func TestWhatAppendLogWritesIsRead(t *testing.T) {
	entries := []Entry{{[]byte("a"), []byte("1")}, {nil, []byte("2")}, {[]byte("c"), nil}, {[]byte{}, []byte{}}}
	for _, batch := range []*BatchID{nil, {"p", 1, 2}} {
		frame := AppendLog([]byte("before"), 77, entries, batch)[len("before"):]
		if want := len(frame) - 4; int(be32(frame)) != want {
			t.Fatalf("frame's length %d, want %d", be32(frame), want)
		}
		call, err := decodeBody(newDecoder(10), frame[4:])
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(call.Entries, entries) || !reflect.DeepEqual(call.Batch, batch) {
			t.Errorf("read %q %v, want %q %v", call.Entries, call.Batch, entries, batch)
		}
	}
}
