package aggregator

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/thrift"
)

func TestMessagesReachTheChainOfTheirCategoryInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		h.must(thrift.OK, "web:one", "api:1", "web:two", "api:2", "web:three")
		equal(t, "web", h.of("n1", "web").messages(), []string{"one", "two", "three"})
		equal(t, "api", h.of("n1", "api").messages(), []string{"1", "2"})
		b := h.of("n1", "web").batches()[0]
		equal(t, "first", b.First, 1)
		equal(t, "senders", b.Senders, []string{"10.0.0.1"})
		equal(t, "stored", h.book("web").Stored, map[string]Count{"n1": {3, 14}})
	})
}

func TestEachMessageIsStoredWithExactlyOneLineFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		h.must(thrift.OK, "c:plain", "c:ended\n", "c:", "c:\n", "c:two\n\n", "c:in\nside", "c:cr\r\n", "c:\x00\xff")
		b := h.of("n1", "c").batches()[0]
		equal(t, "text", fmt.Sprintf("%q", b.Data), fmt.Sprintf("%q", "plain\nended\n\n\ntwo\n\nin\nside\ncr\r\n\x00\xff\n"))
		equal(t, "messages", fmt.Sprintf("%q", b.messages), `["plain" "ended" "" "" "two\n" "in\nside" "cr\r" "\x00\xff"]`)
	})
}

func TestAnEmptyCallIsOK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		h.must(thrift.OK)
		equal(t, "offered", h.Books().Total.Offered, Count{})
	})
}

func TestAMissingMessageIsAnEmptyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		got := h.Log(context.Background(), &thrift.Call{Entries: []thrift.Entry{{Category: []byte("web")}}})
		equal(t, "result", got, thrift.OK)
		equal(t, "messages", h.of("n1", "web").messages(), []string{""})
	})
}

func TestRulesAreFoundAsScribeFindsThem(t *testing.T) {
	open := func(string, int, uint32) (Chain, error) { return Chain{}, nil }
	var rules []Rule
	for i, match := range []string{"web", "foobar*", "foo*", "foo", "*", "web", "*", "a!*", "a*", "x*y"} {
		rules = append(rules, Rule{Match: match, Ack: AckStored, Routes: []Route{{Key: fmt.Sprint(i), Open: open}}})
	}
	r, err := newRouter(rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		category, key string
		exact         bool
	}{
		{"web", "0", true}, // the first of two
		{"Web", "4", false},
		{"web2", "4", false},
		{"foo", "3", true},
		{"foo1", "2", false},
		{"foobar1", "2", false}, // foo* comes first in byte order
		{"a!1", "7", false},     // a!* comes before a*
		{"a", "8", false},
		{"x*y", "9", true}, // a star inside is none
		{"x1y", "4", false},
	} {
		rule, exact := r.find([]byte(c.category))
		if rule == nil || rule.Routes[0].Key != c.key || exact != c.exact {
			t.Errorf("%q: rule %+v exact %v, want %s %v", c.category, rule, exact, c.key, c.exact)
		}
	}
	if none, _ := newRouter(rules[:1]); none != nil {
		if rule, _ := none.find([]byte("other")); rule != nil {
			t.Errorf("without a star, %q has rule %q", "other", rule.Match)
		}
	}
}

func TestABlankCategoryAndALongMessageAreDeadLettersAndTheCallGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		long := strings.Repeat("x", 1001)
		name := strings.Repeat("n", maxName+1)
		h.must(thrift.OK, "web:one", ":blank", "web:"+long, name+":under a long name", "web:two", ":blank2")
		equal(t, "web", h.of("n1", "web").messages(), []string{"one", "two"})

		letters := h.of("dead-letter", "web").batches()
		equal(t, "letters of web", len(letters), 1)
		equal(t, "long", letters[0].messages[0] == long, true)
		equal(t, "note", letters[0].Note, noteMessage)

		var notes []string
		for _, b := range h.of("dead-letter", "").batches() {
			notes = append(notes, fmt.Sprint(b.Note, b.messages))
		}
		equal(t, "blank", notes, []string{
			noteBlank + "[blank]", noteName + "[under a long name]", noteBlank + "[blank2]",
		})
		web := h.book("web")
		equal(t, "stored of web", web.Stored, map[string]Count{"n1": {2, 8}, "dead-letter": {1, 1002}})
		equal(t, "stored of the blank one", h.book("").Stored["dead-letter"].Messages, 3)
	})
}

func TestAMessageAtTheLimitIsNoDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		h.must(thrift.OK, "web:"+strings.Repeat("x", 1000))
		equal(t, "messages", len(h.of("n1", "web").messages()), 1)
		equal(t, "dead letters", len(h.all("dead-letter")), 0)
	})
}

func TestFullDeadLettersRefuseOnlyCallsThatHoldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				if p.name == "dead-letter" {
					p.append = failing(fmt.Errorf("the buffer: %w", store.ErrFull))
				}
			}
		})
		h.must(thrift.TryLater, ":blank") // tried and withdrawn
		h.must(thrift.TryLater, "web:one", ":blank")
		h.must(thrift.OK, "web:two")
		equal(t, "web", h.of("n1", "web").messages(), []string{"two"})
		equal(t, "why", h.book("").Refused, map[string]Count{"dead-letters": {1, 6}})
		equal(t, "why web", h.book("web").Refused, map[string]Count{"call": {1, 4}})
		status, text := h.Status()
		equal(t, "status", status, thrift.Warning)
		equal(t, "text", text, `category "": the buffer: full`)
	})
}

func TestACallLongerThanABatchBecomesSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		var entries, want []string
		for i := range 50 {
			m := fmt.Sprintf("%03d%s", i, strings.Repeat("x", 200))
			entries, want = append(entries, "web:"+m), append(want, m)
		}
		h.must(thrift.OK, entries...)
		p := h.of("n1", "web")
		equal(t, "messages", p.messages(), want)
		next := uint64(1)
		for _, b := range p.batches() {
			equal(t, "first", b.First, next)
			next = b.Last() + 1
			if len(b.Data) > 4096 {
				t.Errorf("a batch of %d bytes, max_batch is 4096", len(b.Data))
			}
		}
		equal(t, "batches", len(p.batches()), 3) // 20 of 204 bytes fit into 4096
	})
}

func TestAMessageLargerThanABatchIsABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.Queue.MaxBatch, h.opts.Limits.Message = 100, 1000 })
		long := strings.Repeat("x", 500)
		h.must(thrift.OK, "web:a", "web:"+long, "web:b")
		var sizes []int
		for _, b := range h.of("n1", "web").batches() {
			sizes = append(sizes, b.Len())
		}
		equal(t, "batches", sizes, []int{1, 1, 1})
	})
}

func TestABatchOfTinyMessagesEndsWhenItsOffsetsAreMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.Queue.MaxBatch = 800 })
		h.must(thrift.OK, strings.Split(strings.Repeat("web: ", 250)[:249*5+4], " ")...)
		var sizes []int
		for _, b := range h.of("n1", "web").batches() {
			sizes = append(sizes, b.Len())
		}
		equal(t, "batches", sizes, []int{100, 100, 50})
	})
}

// ids flattens spans to "producer:epoch:sequence from+messages@first".
func ids(batches []kept) (all []string) {
	for _, b := range batches {
		for _, s := range b.IDs {
			all = append(all, fmt.Sprintf("%s:%d:%d %d+%d@%d", s.Producer, s.Epoch, s.Sequence, s.From, s.Messages, s.First))
		}
	}
	return all
}

func TestBatchIDsSayWhichMessageOfTheCallEachIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.Queue.MaxBatch = 400 })
		long := strings.Repeat("x", 1001)
		c := call("web:0", "api:0", "web:1", "web:"+long, "web:3", "api:1", "web:4"+strings.Repeat("x", 397), "web:5")
		producer := []byte("p1")
		c.Batch = &thrift.BatchID{Producer: string(producer), Epoch: 7, Sequence: 9}
		equal(t, "result", h.Log(context.Background(), c), thrift.OK)
		h.must(thrift.OK, "web:no id")
		equal(t, "web", ids(h.of("n1", "web").batches()), []string{"p1:7:9 0+2@1", "p1:7:9 3+1@3", "p1:7:9 4+1@4", "p1:7:9 5+1@5"})
		equal(t, "api", ids(h.of("n1", "api").batches()), []string{"p1:7:9 0+2@1"})
		equal(t, "dead", ids(h.of("dead-letter", "web").batches()), []string{"p1:7:9 2+1@1"})
	})
}

func TestABatchGathersWhileTheOneBeforeItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				p.append = func(ctx context.Context, b *store.Batch) (*store.Batch, error) {
					time.Sleep(100 * time.Millisecond)
					return nil, nil
				}
			}
		})
		begin := time.Now()
		var calls sync.WaitGroup
		for i := range 10 {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				c := call(fmt.Sprintf("web:%d", i))
				c.Sender = fmt.Sprintf("10.0.0.%d", i)
				equal(t, "result", h.Log(context.Background(), c), thrift.OK)
			})
		}
		calls.Wait()
		b := h.of("n1", "web").batches()
		equal(t, "batches", len(b), 2)
		equal(t, "second", len(b[1].messages), 9)
		equal(t, "senders", len(b[1].Senders), 9)
		equal(t, "its budget began with its oldest message", b[1].Since.Sub(begin), 10*time.Millisecond)
		equal(t, "and it was stored after", time.Since(begin), 200*time.Millisecond)
	})
}

func TestSendersOfABatchAreDistinctAndSharedByBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Rules = []Rule{h.rule("*", AckReceived, "n1")}
		})
		for range 3 {
			for i := range 40 {
				c := call("web:x")
				c.Sender = fmt.Sprintf("10.0.0.%d", i/2)
				h.Log(context.Background(), c)
			}
			time.Sleep(time.Second)
		}
		b := h.of("n1", "web").batches()
		equal(t, "batches", len(b), 3)
		for _, one := range b {
			equal(t, "senders", len(one.Senders), 20)
		}
	})
}

func TestNewSaysAllThatIsWrongWithAConfiguration(t *testing.T) {
	open := func(string, int, uint32) (Chain, error) { return Chain{}, nil }
	of := func([]byte) (int, int) { return 0, 0 }
	_, err := New(Options{Config: Config{
		Rules: []Rule{
			{Match: "", Ack: AckStored, Routes: []Route{{Open: open}}},
			{Match: "web", Ack: "perhaps", Routes: []Route{{Open: open}}},
			{Match: "api", Ack: AckStored, Routes: []Route{{Open: open}, {Period: "week", Open: open}}},
			{Match: "x", Ack: AckStored, Routes: []Route{{}}},
			{Match: "y", Ack: AckStored},
			{Match: "z", Ack: AckStored, Routes: []Route{{Open: open, Split: &Split{Parts: 3}}, {Open: open, Split: &Split{Of: of}}}},
			{Match: "many", Ack: AckStored, Routes: make([]Route, maxRoutes+1)},
		},
		DeadLetters: Rule{Routes: []Route{{Open: open, Split: &Split{Parts: 2, Of: of}}}},
		Unrouted:    &Rule{},
		Queue:       conf.Queue{MaxBatch: 1 << 31},
	}, Log: nop})
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{
		"rule 1: empty match", `rule 2 ("web"): ack "perhaps"`, `rule 3 ("api"): route 1: period "week"`, `rule 4 ("x"): route 0: no way to open`,
		`rule 5 ("y"): no route`, `rule 6 ("z"): route 0: split: no way to divide`, "route 1: split into 0 parts: want 1 to 65536",
		`rule 7 ("many"): 65 routes: want at most 64`,
		"dead letters: want one route that is not split", "unrouted: no route", "limits.memory: want more than 0", "queue.max_batch and limits.message: want at most",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestACallsTablesAreRightWhenTheirCounterComesRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		h.must(thrift.OK, "web:a", "api:a")
		s := h.getScratch(1)
		h.sort(s, call("web:a")) // marks it as part 0 of call n
		s.call = ^uint32(0)
		for i := range s.seen {
			s.seen[i] = mark{call: 1, part: 7} // as the first call left it
		}
		h.sort(s, call("web:a"))
		equal(t, "parts", len(s.parts), 1)
		equal(t, "category", s.parts[0].c.name, "web")
	})
}

func TestSameComparesWholeNames(t *testing.T) {
	for n := range 40 {
		a := bytes.Repeat([]byte{'a'}, n)
		if !same(a, bytes.Clone(a)) || same(a, append(bytes.Clone(a), 'a')) {
			t.Errorf("%d bytes: equal ones differ, or a longer one is the same", n)
		}
		for i := range n {
			b := bytes.Clone(a)
			b[i] = 'b'
			if same(a, b) || same(b, a) {
				t.Errorf("%d bytes: a difference at %d is not seen", n, i)
			}
		}
	}
}
