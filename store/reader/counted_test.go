package reader

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"twinscribe/store/catalog"
)

// asLines is a counted batch: what a repair makes of a batch when it counts
// lines.
func asLines(first uint64, batches ...batch) batch {
	var text []byte
	for _, b := range batches {
		data, _ := b.text()
		text = append(text, data...)
	}
	return batch{first: first, messages: strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), counted: true}
}

func TestACountedRangeEndsWhereTheNextOneOfItsChainBegins(t *testing.T) {
	a, b, c := numbered("m", 1, 6), numbered("m", 7, 3), numbered("m", 10, 4)
	folded := numbered("m", 1, 6)
	folded.messages[2], folded.messages[4] = "stack\ntrace\nof three", "\n"
	other := batch{first: 7, messages: []string{"never acknowledged", "neither"}}
	for name, test := range map[string]struct {
		counted []batch // one file each, in this order
		exact   []batch
		want    []batch
		tell    []string
	}{
		"nothing follows":                      {[]batch{asLines(1, a)}, nil, []batch{a}, nil},
		"the next file follows":                {[]batch{asLines(1, a)}, []batch{b}, []batch{a, b}, nil},
		"its tail was sent again":              {[]batch{asLines(1, a, b)}, []batch{b}, []batch{a, b}, nil},
		"and more followed":                    {[]batch{asLines(1, a, b)}, []batch{b, c}, []batch{a, b, c}, nil},
		"a part of its tail was sent again":    {[]batch{asLines(1, a, b, other)}, []batch{b}, []batch{a, other, b}, []string{"counted as sequences that stand elsewhere"}},
		"a cut tail was sent again whole":      {[]batch{asLines(1, a, batch{messages: b.messages[:2]})}, []batch{b}, []batch{a, b}, nil},
		"all of it was sent again":             {[]batch{asLines(7, b)}, []batch{b}, []batch{b}, nil},
		"all of it and more":                   {[]batch{asLines(7, b)}, []batch{b, c}, []batch{b, c}, nil},
		"line feeds inside":                    {[]batch{asLines(1, folded)}, []batch{b}, []batch{asLines(1, folded), b}, []string{"counted as sequences"}},
		"line feeds inside, tail sent again":   {[]batch{asLines(1, folded, b)}, []batch{b}, []batch{asLines(1, folded), b}, []string{"counted as sequences"}},
		"something else with the same numbers": {[]batch{asLines(1, a, other)}, []batch{b}, []batch{a, other, b}, []string{"counted as sequences"}},
		"two counted ones, too high a count":   {[]batch{asLines(1, folded), asLines(7, b)}, nil, []batch{asLines(1, folded), b}, []string{"counted as sequences"}},
		"two counted ones from 1":              {[]batch{asLines(1, a), asLines(1, b)}, nil, []batch{a, b}, []string{"counted as sequences"}},
		"two counted ones with the same":       {[]batch{asLines(1, a), asLines(1, a)}, nil, []batch{a}, nil},
		"two counted ones, one is longer":      {[]batch{asLines(1, a, b), asLines(1, a)}, nil, []batch{a, b}, nil},
		"a gap inside, tail sent again":        {[]batch{asLines(1, a, c)}, []batch{b, c}, []batch{a, c, b, c}, []string{"counted as sequences"}},
		"exact ones on both sides":             {[]batch{asLines(7, b, batch{messages: c.messages[:1]})}, []batch{a, c}, []batch{a, b, c}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := testWorld(t)
			number := uint32(0)
			for _, one := range test.counted {
				number++
				s := web("n1", number, one)
				s.reason = "repair"
				w.sealed(s)
			}
			for _, one := range test.exact {
				number++
				w.sealed(web("n2", number, one))
			}
			w.inventories("n1")
			got, report := w.read(Query{Category: "web"})
			sameLines(t, got, test.want)
			w.wantUncounted(report, test.tell...)
		})
	}
}

// sameLines compares lines in order; those without a sequence may stand
// anywhere among their chain.
func sameLines(t *testing.T, got []line, want []batch) {
	t.Helper()
	var text []byte
	for _, b := range want {
		data, _ := b.text()
		text = append(text, data...)
	}
	wanted := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	count := make(map[string]int)
	for _, l := range wanted {
		count[l]++
	}
	last := uint64(0)
	for _, l := range got {
		for _, one := range strings.Split(l.data, "\n") {
			count[one]--
		}
		if l.sequence != 0 && l.sequence <= last {
			t.Errorf("sequence %d behind %d", l.sequence, last)
		}
		last = max(last, l.sequence)
	}
	for l, n := range count {
		if n != 0 {
			t.Errorf("line %q: %d too few", l, n)
		}
	}
}

func TestACountedRangeNeverHidesAnExactOne(t *testing.T) {
	w := testWorld(t)
	exact := numbered("exact", 5, 2)
	s := web("n1", 1, asLines(1, numbered("exact", 1, 9)))
	s.reason = "repair"
	w.sealed(s)
	w.sealed(web("n2", 9, exact))
	w.inventories("n1")
	got, _ := w.read(Query{Category: "web"})
	for _, l := range got {
		if (l.sequence == 5 || l.sequence == 6) && l.place != "n2" {
			t.Errorf("sequence %d is taken from %s", l.sequence, l.place)
		}
	}
	sameLines(t, got, []batch{numbered("exact", 1, 4), exact, numbered("exact", 7, 3)})

	w = testWorld(t) // also one that begins before it, in a later file
	w.sealed(web("n1", 1, asLines(3, numbered("m", 3, 6))))
	w.sealed(web("n2", 9, numbered("m", 1, 5)))
	w.inventories("n1")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, numbered("m", 1, 8))
	w.wantUncounted(report)
	if got[4].place != "n2" || got[5].place != "n1" {
		t.Errorf("sequences 5 and 6 are taken from %s and %s", got[4].place, got[5].place)
	}
}

func TestOverlapIsTheLongestCommonEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom([]byte("ab\n")), 0, 30)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		want := 0
		for n := 1; n <= min(len(a), len(b)); n++ {
			if bytes.Equal(a[len(a)-n:], b[:n]) {
				want = n
			}
		}
		if got := overlap(a, b); got != want {
			t.Fatalf("overlap of %q and %q is %d, want %d", a, b, got, want)
		}
	})
}

func TestPlanTakesEachSequenceFromTheBestPieceThatHasIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var pieces []*piece
		for i := range rapid.IntRange(0, 8).Draw(t, "pieces") {
			first := rapid.Uint64Range(1, 20).Draw(t, "first")
			pieces = append(pieces, &piece{
				first: first, last: first + rapid.Uint64Range(0, 10).Draw(t, "more"),
				counted: rapid.Bool().Draw(t, "counted"), rank: rapid.IntRange(0, 2).Draw(t, "rank"), number: rapid.Uint64Range(1, 3).Draw(t, "number"),
				src: &file{site: &site{name: "n1"}, path: string(rune('a' + i))},
			})
		}
		from, to := rapid.Uint64Range(1, 35).Draw(t, "from"), rapid.Uint64Range(1, 35).Draw(t, "to")
		winners := plan(pieces, from, to)
		next, i := from, 0
		for at := from; at <= to; at++ {
			var best *piece
			for _, p := range pieces {
				if p.first <= at && at <= p.last && (best == nil || p.better(best)) {
					best = p
				}
			}
			if best == nil {
				next = at + 1
				continue
			}
			if i >= len(winners) || winners[i].piece != best || at < winners[i].from || at > winners[i].to || winners[i].from < next {
				t.Fatalf("sequence %d is not the best piece's in %+v", at, winners)
			}
			if at == winners[i].to {
				i, next = i+1, at+1
			}
		}
		if i != len(winners) {
			t.Fatalf("%d winners too many", len(winners)-i)
		}
		ranges := []catalog.Range{{First: from, Last: max(from, to)}}
		n := uint64(0)
		for _, v := range plan(pieces, from, max(from, to)) {
			n += v.to - v.from + 1
		}
		if got := uncovered(ranges, pieces); got != max(from, to)-from+1-n {
			t.Fatalf("%d uncovered, want %d", got, max(from, to)-from+1-n)
		}
	})
}
