package framed_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"twinscribe/buffer/framed"
)

// tally is what became of the good messages of many damaged files.
type tally struct {
	files, good, delivered int
	garbage                int // messages that nobody wrote
	lossy                  int // files of which a good message is missing
}

func (s tally) String() string {
	return fmt.Sprintf("files=%d good=%d delivered=%d (%.3f%%) garbage=%d files_with_loss=%d",
		s.files, s.good, s.delivered, 100*s.share(), s.garbage, s.lossy)
}

func (s tally) share() float64 { return float64(s.delivered) / float64(s.good) }

// perfect says that all good messages and nothing else were delivered.
func (s tally) perfect() bool { return s.good > 0 && s.delivered == s.good && s.garbage == 0 }

// add compares what was found with the good messages that are in the file.
func (s *tally) add(good, got []message) {
	left := map[message]int{}
	for _, m := range good {
		left[m]++
	}
	delivered := 0
	for _, m := range got {
		if left[m] > 0 {
			left[m]--
			delivered++
		} else {
			s.garbage++
		}
	}
	s.files++
	s.good += len(good)
	s.delivered += delivered
	if delivered < len(good) {
		s.lossy++
	}
}

// TestTornFrames cuts a message at every byte, as a crash or a full disk does,
// and appends good ones, as the server does that goes on. Of lines of text all
// are delivered and nothing else, and of text without line feeds where the
// form has two frames.
func TestTornFrames(t *testing.T) {
	// What is asked for where one good message follows and where 2 to 12 do:
	// the share that is delivered, and the share of the files in which
	// something is handed over that nobody wrote. Others are perfect.
	least := map[string][2]struct{ delivered, garbage float64 }{
		"form=one frame/kind=text without line feeds":       {{0.998, 0.002}, {1, 0}},
		"form=one frame/kind=short text without line feeds": {{0.88, 0.11}, {0.996, 0.03}},
		"form=one frame/kind=random bytes":                  {{0.55, 0.05}, {0.97, 0.02}},
		"form=one frame/kind=binary records":                {{0.30, 0.35}, {0.90, 0.35}},
		"form=two frames/kind=short lines":                  {{0.95, 0.10}, {0.93, 0.50}},
		"form=two frames/kind=random bytes":                 {{0.98, 0.03}, {0.99, 0.02}},
		"form=two frames/kind=binary records":               {{0.90, 0.14}, {0.96, 0.16}},
	}
	for _, form := range forms {
		for _, k := range kinds {
			name := fmt.Sprintf("form=%v/kind=%s", form, k.name)
			t.Run(name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 2))
				var s [2]tally
				for round := range 36 {
					before, torn, after := k.some(r, r.IntN(4)), k.some(r, 1), k.some(r, 1+round%12)
					tearAll(t, form, inForm(form, before), inForm(form, torn), inForm(form, after), &s[min(len(after)-1, 1)])
				}
				t.Logf("one good message behind it: %v", s[0])
				t.Logf("two to twelve:              %v", s[1])
				for i, s := range s {
					want, imperfect := least[name]
					if !imperfect && !s.perfect() || imperfect && (s.share() < want[i].delivered || float64(s.garbage) > want[i].garbage*float64(s.files)) {
						t.Errorf("%v, want %v", s, want[i])
					}
				}
			})
		}
	}
}

// tearAll cuts torn at every byte between the messages before and after it.
func tearAll(t *testing.T, form framed.Form, before, torn, after []message, s *tally) {
	t.Helper()
	head, _ := build(form, before)
	whole, _ := build(form, torn)
	tail, _ := build(form, after)
	for cut := 1; cut < len(whole); cut++ {
		got := scan(t, slices.Concat(head, whole[:cut], tail), framed.Options{Form: form})
		s.add(slices.Concat(before, after), got.messages)
	}
}

// TestTornLinesOfEveryLength has lines whose lengths have zero bytes, line
// feeds and carries in all places, torn within a length, near their ends, and
// here and there between.
func TestTornLinesOfEveryLength(t *testing.T) {
	lengths := []int{1, 2, 3, 4, 9, 10, 11, 12, 255, 256, 257, 511, 512, 513, 2560, 2570, 2571, 65535, 65536, 65537, 65546, 131072, 657930}
	for _, form := range forms {
		t.Run(fmt.Sprintf("form=%v", form), func(t *testing.T) {
			var s tally
			line := func(n int) message {
				text := strings.Repeat("GET / ", n/6+1)[:n-1] + "\n"
				return inForm(form, []message{{"web", text}})[0]
			}
			for _, torn := range lengths {
				for _, next := range lengths {
					whole, _ := build(form, []message{line(torn)})
					after := []message{line(next), line(30), line(13), line(15)}
					tail, _ := build(form, after)
					for cut := 1; cut < len(whole); cut++ {
						if cut > 20 && cut < len(whole)-6 && cut%30011 != 0 {
							continue
						}
						if next == 1 || form == framed.TwoFrames && cut == len(one("web\n")) && next < 5 { // see Scan
							continue
						}
						got := scan(t, slices.Concat(whole[:cut], tail), framed.Options{Form: form})
						s.add(after, got.messages)
						if !s.perfect() {
							t.Fatalf("%d bytes, torn at %d, before %d bytes: messages at %v, %v", torn, cut, next, got.begins, got.damages)
						}
					}
				}
			}
			t.Log(s)
		})
	}
}

// TestManyTornFrames has up to five tears in a file, some with nothing good or
// only zeros between them.
func TestManyTornFrames(t *testing.T) {
	for _, gap := range []int{0, 5000} {
		for _, form := range forms {
			t.Run(fmt.Sprintf("zeros=%d/form=%v", gap, form), func(t *testing.T) {
				r := rand.New(rand.NewPCG(7, 8))
				var s tally
				for range 3000 {
					var file []byte
					var good []message
					for range 1 + r.IntN(5) {
						g := inForm(form, kinds[0].some(r, r.IntN(4)))
						part, _ := build(form, g)
						torn, _ := build(form, inForm(form, kinds[0].some(r, 1)))
						good = append(good, g...)
						file = slices.Concat(file, part, torn[:r.IntN(len(torn))], make([]byte, gap*r.IntN(2)))
					}
					g := inForm(form, kinds[0].some(r, 1))
					part, _ := build(form, g)
					got := scan(t, append(file, part...), framed.Options{Form: form})
					s.add(append(good, g...), got.messages)
				}
				t.Log(s)
				// Two heads in a row can make up one message.
				if s.share() < 0.998 || s.garbage > s.files/50 {
					t.Error(s)
				}
			})
		}
	}
}

// TestEveryFlippedBit flips every bit of a file. Lines that were not hit are
// all delivered; binary messages behind the one that was hit may be lost.
func TestEveryFlippedBit(t *testing.T) {
	worst := map[string]int{ // messages lost beside the one that was hit, in files of ten
		"form=one frame/kind=random bytes":    9,
		"form=one frame/kind=binary records":  9,
		"form=two frames/kind=short lines":    9,
		"form=two frames/kind=random bytes":   9,
		"form=two frames/kind=binary records": 9,
	}
	for _, form := range forms {
		for _, k := range kinds {
			name := fmt.Sprintf("form=%v/kind=%s", form, k.name)
			t.Run(name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(5, 6))
				messages := inForm(form, k.some(r, 10))
				file, offsets := build(form, messages)
				var s tally
				hit, invented := 0, 0
				lost := map[int]int{}
				for at := range file {
					if int64(at) >= offsets[hit+1] {
						hit++
					}
					others := slices.Delete(slices.Clone(messages), hit, hit+1)
					for bit := range 8 {
						file[at] ^= 1 << bit
						got := scan(t, file, framed.Options{Form: form})
						file[at] ^= 1 << bit
						before := s
						s.add(others, got.messages)
						missing := len(others) - (s.delivered - before.delivered)
						lost[missing]++
						if missing > worst[name] {
							t.Fatalf("bit %d of byte %d, in message %d: %d others are lost; left are %v, %v", bit, at, hit, missing, got.begins, got.damages)
						}
						if s.garbage > before.garbage+1 { // the one that was hit may come changed
							invented++
						}
					}
				}
				t.Logf("flips=%d, by the number of others lost: %v; with two messages and more that nobody wrote: %d", s.files, lost, invented)
				if _, binary := worst[name]; !binary && invented > 0 {
					t.Errorf("%d files in which more is made up than the message that was hit", invented)
				}
			})
		}
	}
}
