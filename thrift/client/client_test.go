package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"twinscribe/thrift"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestACallIsAnsweredInBothForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		c := f.client(Options{Addrs: []string{"a:1"}})
		for name, answer := range map[string]func(int, []byte) []byte{
			"old": ok,
			"strict": func(_ int, frame []byte) []byte {
				return slices.Concat([]byte("\x00\x00\x00\x17\x80\x01\x00\x02\x00\x00\x00\x03Log"), seqOf(frame), []byte{8, 0, 0, 0, 0, 0, 0, 0})
			},
			"with a field of a later version": func(_ int, frame []byte) []byte {
				return slices.Concat([]byte("\x00\x00\x00\x1c\x00\x00\x00\x03Log\x02"), seqOf(frame), []byte{11, 0, 9, 0, 0, 0, 1, 'x', 8, 0, 0, 0, 0, 0, 0, 0})
			},
		} {
			f.scripts["a:1"] = answer
			if err := c.Log(t.Context(), one); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(f.tried) != 1 {
			t.Errorf("%d connections for three calls, want one", len(f.tried))
		}
	})
}

func TestTryLaterIsRepeatedWithGrowingPausesAndTheSameID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.scripts["a:1"] = func(n int, frame []byte) []byte {
			if n <= 8 {
				return later(n, frame)
			}
			return ok(n, frame)
		}
		c := f.client(Options{Addrs: []string{"a:1"}})
		if err := c.Log(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		if len(f.times) != 9 {
			t.Fatalf("%d tries, want 9", len(f.times))
		}
		pause := 100 * time.Millisecond
		for i := 1; i < len(f.times); i++ {
			if d := f.times[i] - f.times[i-1]; d < pause/2 || d > pause {
				t.Errorf("pause %d is %v, want %v to %v", i, d, pause/2, pause)
			}
			pause = min(2*pause, 5*time.Second)
		}
		for _, frame := range f.frames["a:1"][1:] {
			if string(frame) != string(f.frames["a:1"][0]) {
				t.Error("a repetition is another call")
			}
		}
	})
}

func TestAFailedConnectionGoesToTheNextAddressAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.scripts["c:1"] = ok
		c := f.client(Options{Addrs: []string{"a:1", "b:1", "c:1"}})
		for range 2 {
			if err := c.Log(t.Context(), one); err != nil {
				t.Fatal(err)
			}
		}
		if want := []string{"a:1", "b:1", "c:1"}; !slices.Equal(f.tried, want) {
			t.Errorf("dialled %v, want %v: it stays where it is answered", f.tried, want)
		}
		if took := time.Since(f.began); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestWithNobodyThereThePauseComesAfterEachRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		c := f.client(Options{Addrs: []string{"a:1", "b:1"}})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := c.Log(ctx, one)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("error %v, want the deadline and the last failure", err)
		}
		if n := len(f.tried); n < 10 || n > 14 || n%2 != 0 {
			t.Errorf("%d connections were tried in 2 s, want 5 to 7 rounds of two: %v", n, f.tried)
		}
		if took := time.Since(f.began); took != 2*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

func TestALostAnswerIsRecognisable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.scripts["a:1"] = func(int, []byte) []byte { return nil } // takes the call and is gone
		f.scripts["b:1"] = ok
		c := f.client(Options{Addrs: []string{"a:1", "b:1"}, Producer: "web1", Epoch: 7})
		for range 2 {
			if err := c.Log(t.Context(), one); err != nil {
				t.Fatal(err)
			}
		}
		first, second, third := f.frames["a:1"][0], f.frames["b:1"][0], f.frames["b:1"][1]
		if string(first) != string(second) {
			t.Error("the call that was sent again has another id")
		}
		for i, frame := range [][]byte{second, third} {
			want := slices.Concat([]byte("\x0c\x00\x02\x0b\x00\x01\x00\x00\x00\x04web1\x0a\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07\x0a\x00\x03\x00\x00\x00\x00\x00\x00\x00"), []byte{byte(i + 1), 0, 0})
			if !strings.HasSuffix(string(frame), string(want)) {
				t.Errorf("call %d: %x does not end with the batch id %x", i, frame, want)
			}
		}
	})
}

func TestAnIdleConnectionThatWasClosedIsMadeAgainUnnoticed(t *testing.T) {
	for name, noIDs := range map[string]bool{"with ids": false, "without ids": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t)
				f.scripts["a:1"] = func(n int, frame []byte) []byte {
					if n == 2 {
						return nil // on the connection that has answered before
					}
					return ok(n, frame)
				}
				c := f.client(Options{Addrs: []string{"a:1"}, NoBatchIDs: noIDs})
				if _, err := c.Call(t.Context(), one); err != nil {
					t.Fatal(err)
				}
				_, err := c.Call(t.Context(), one)
				if noIDs != (err != nil) {
					t.Errorf("error %v: only a call with an id may be sent twice", err)
				}
			})
		})
	}
}

func TestCallReportsTryLaterAndTriesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.scripts["a:1"] = later
		c := f.client(Options{Addrs: []string{"a:1"}})
		if r, err := c.Call(t.Context(), one); r != thrift.TryLater || err != nil {
			t.Errorf("%v, %v", r, err)
		}
		if len(f.times) != 1 {
			t.Errorf("%d tries", len(f.times))
		}
	})
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, answer := range map[string]func(frame []byte) []byte{
		"another call's": func(frame []byte) []byte { return result([]byte("........\x00\x00\x00\x63"), 0) },
		"result 2":       func(frame []byte) []byte { return result(frame, 2) },
		"too long":       func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") },
		"empty":          func([]byte) []byte { return make([]byte, 4) },
		"no result": func(f []byte) []byte {
			return slices.Concat([]byte("\x00\x00\x00\x0d\x00\x00\x00\x03Log\x02"), seqOf(f), []byte{0})
		},
		"another method's": func(f []byte) []byte {
			return slices.Concat([]byte("\x00\x00\x00\x0d\x00\x00\x00\x03Gol\x02"), seqOf(f), []byte{0})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t)
				f.scripts["a:1"] = func(n int, frame []byte) []byte {
					if n == 1 {
						return answer(frame)
					}
					return ok(n, frame)
				}
				c := f.client(Options{Addrs: []string{"a:1"}})
				if r, err := c.Call(t.Context(), one); err == nil {
					t.Errorf("taken for result %v", r)
				}
				if r, err := c.Call(t.Context(), one); err != nil || r != thrift.OK {
					t.Errorf("the next call: %v, %v", r, err)
				}
			})
		})
	}
}

func TestAnExceptionIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.scripts["a:1"] = func(_ int, frame []byte) []byte {
			return slices.Concat([]byte("\x00\x00\x00\x1d\x00\x00\x00\x03Log\x03"), seqOf(frame), []byte("\x0b\x00\x01\x00\x00\x00\x02no\x08\x00\x02\x00\x00\x00\x07\x00"))
		}
		c := f.client(Options{Addrs: []string{"a:1"}})
		err := c.Log(t.Context(), one)
		if e, is := errors.AsType[*thrift.Exception](err); !is || e.Type != 7 || e.Text != "no" {
			t.Errorf("error %v", err)
		}
		if len(f.times) != 1 {
			t.Errorf("%d tries", len(f.times))
		}
	})
}

func TestAServerThatDoesNotAnswerIsLeftAfterTheCallTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		hang := make(chan struct{})
		defer close(hang)
		f.scripts["a:1"] = func(int, []byte) []byte { <-hang; return nil }
		f.scripts["b:1"] = ok
		c := f.client(Options{Addrs: []string{"a:1", "b:1"}, CallTimeout: 3 * time.Second})
		if err := c.Log(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(f.began); took != 3*time.Second {
			t.Errorf("answered after %v, want 3s", took)
		}
	})
}

func TestTheContextEndsACallAndTheWaitForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		hang := make(chan struct{})
		defer close(hang)
		f.scripts["a:1"] = func(n int, frame []byte) []byte {
			if n == 1 {
				<-hang
			}
			return ok(n, frame)
		}
		c := f.client(Options{Addrs: []string{"a:1"}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- c.Log(ctx, one) }()
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		}
		if took := time.Since(f.began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		if err := c.Log(t.Context(), one); err != nil {
			t.Errorf("the next call: %v", err)
		}
	})
}

func TestWhatIsTooLargeIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.scripts["a:1"] = ok
		c := f.client(Options{Addrs: []string{"a:1"}, MaxFrame: 100})
		big := []thrift.Entry{{Category: []byte("c"), Message: make([]byte, 101)}}
		if err := c.Log(t.Context(), big); !errors.Is(err, ErrTooLarge) {
			t.Errorf("error %v", err)
		}
		if len(f.tried) > 0 {
			t.Error("it connected all the same")
		}
		if err := c.Log(t.Context(), nil); err != nil {
			t.Errorf("a call that fits: %v", err)
		}
	})
}

func TestAClosedClientSaysSo(t *testing.T) {
	c, err := New(Options{Addrs: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := c.Log(t.Context(), one); !errors.Is(err, ErrClosed) {
		t.Errorf("Log: %v", err)
	}
	if _, err := c.Name(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Name: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for _, o := range []Options{
		{}, {Addrs: []string{"host"}}, {Addrs: []string{"a:1", "host:"}}, {Addrs: []string{"a:1"}, Producer: strings.Repeat("p", 257)},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestForwardSendsTheIDItIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.scripts["a:1"] = later
		c := f.client(Options{Addrs: []string{"a:1"}})
		id := &thrift.BatchID{Producer: "leaf", Epoch: 3, Sequence: 41}
		for _, id := range []*thrift.BatchID{id, nil} {
			if r, err := c.Forward(t.Context(), one, id); r != thrift.TryLater || err != nil {
				t.Errorf("%v, %v; want TRY_LATER", r, err)
			}
			frames := f.frames["a:1"]
			want := thrift.AppendLog(nil, int32(len(frames)), one, id)[4:]
			if got := frames[len(frames)-1]; !slices.Equal(got, want) {
				t.Errorf("sent %x, want %x", got, want)
			}
		}
		if len(f.tried) != 1 {
			t.Errorf("%d connections, want one: it stays after TRY_LATER", len(f.tried))
		}
	})
}

func TestForwardRepeatsOnlyWhatDoesNoHarm(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []thrift.Entry
		id      *thrift.BatchID
		repeats bool
	}{
		{"messages without an id", one, nil, false},
		{"messages with an id", one, &thrift.BatchID{Producer: "p"}, true},
		{"no messages", nil, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t)
				f.scripts["a:1"] = func(n int, frame []byte) []byte {
					if n == 2 {
						return nil
					}
					return ok(n, frame)
				}
				cl := f.client(Options{Addrs: []string{"a:1"}})
				if _, err := cl.Forward(t.Context(), nil, nil); err != nil {
					t.Fatal(err)
				}
				if _, err := cl.Forward(t.Context(), c.entries, c.id); (err == nil) != c.repeats {
					t.Errorf("error %v, repeats: %v", err, c.repeats)
				}
			})
		})
	}
}
