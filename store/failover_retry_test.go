package store_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/storetest"
)

// pair is a failover of two places that nobody probes, the first one preferred.
func pair(r store.Retry) (*store.Failover, [2]*storetest.Mem) {
	var mems [2]*storetest.Mem
	var places []store.FailoverPlace
	for i := range mems {
		name := fmt.Sprint("p", i)
		mems[i] = storetest.NewMem(name, storetest.MemOptions{})
		places = append(places, store.FailoverPlace{Name: name, Place: mems[i], Health: store.NoHealth{}, Retry: r})
	}
	return store.NewFailover(places, store.FailoverOptions{Prefer: store.PreferFirst, Log: zap.NewNop()}), mems
}

// takers sends a batch each second and says which place took each.
func takers(t *testing.T, f *store.Failover, n int) (by []string) {
	for i := range n {
		time.Sleep(time.Second)
		b := storetest.Batch(uint64(i+1), "m")
		if _, err := f.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		by = append(by, b.Taken[0].Place)
	}
	return by
}

func TestAPlaceIsLeftAloneForItsRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, mems := pair(store.Retry{Fixed: true, Interval: 5 * time.Second})
		mems[0].Then(storetest.Step{Err: errors.New("told to")})
		got := fmt.Sprint(takers(t, f, 9))
		// The wait is over once more than five seconds have passed.
		if want := "[p1 p1 p1 p1 p1 p1 p0 p0 p0]"; got != want {
			t.Errorf("taken by %v, want %v", got, want)
		}
	})
}

func TestARetryOfZeroAsksAgainAtTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, mems := pair(store.Retry{Fixed: true})
		mems[0].Then(storetest.Step{Err: errors.New("told to")}, storetest.Step{Err: errors.New("again")})
		if got, want := fmt.Sprint(takers(t, f, 4)), "[p1 p1 p0 p0]"; got != want {
			t.Errorf("taken by %v, want %v", got, want)
		}
	})
}

func TestAPlaceThatAsksForAPauseIsNotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, mems := pair(store.Retry{Fixed: true, Interval: time.Hour})
		later := storetest.Step{Err: fmt.Errorf("told to: %w", store.ErrLater)}
		mems[0].Then(later, later)
		if got, want := fmt.Sprint(takers(t, f, 4)), "[p1 p1 p0 p0]"; got != want {
			t.Errorf("taken by %v, want %v", got, want)
		}
		if n := f.Status().Switches; n != 0 {
			t.Errorf("%d switches, want none", n)
		}
	})
}
