package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/catalog"
)

func TestTheProblemOfAFailoverIsWhyItIsNotWhereItPrefersToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, quiet := range []bool{false, true} {
			first, last := &moody{}, &moody{}
			f := store.NewFailover([]store.FailoverPlace{
				{Name: "a", Place: first, Health: store.NoHealth{}, Retry: store.Retry{Fixed: true, Interval: 3 * time.Second}, Quiet: quiet},
				{Name: "b", Place: last},
			}, store.FailoverOptions{Prefer: store.PreferFirst, Log: zap.NewNop()})
			send := func() {
				t.Helper()
				if _, err := f.Append(t.Context(), &store.Batch{Category: "c", First: 1, Data: []byte("m\n"), Ends: []uint32{2}}); err != nil {
					t.Fatal(err)
				}
			}
			send()
			if p := f.Problem(); p != "" {
				t.Errorf("problem %q of a chain that is where it prefers to be", p)
			}
			first.err = errors.New("File open error")
			send()
			if p := f.Problem(); quiet != (p == "") || !quiet && p != "File open error" {
				t.Errorf("quiet %v: problem %q", quiet, p)
			}
			first.err = nil
			time.Sleep(4 * time.Second)
			send()
			send()
			if p := f.Problem(); p != "" || f.Active() != "a" {
				t.Errorf("problem %q at %s after the way back", p, f.Active())
			}
		}
	})
}

// moody is a place that takes everything, or nothing.
type moody struct{ err error }

func (p *moody) Append(_ context.Context, b *store.Batch) (*store.Batch, error) {
	if p.err != nil {
		return b, p.err
	}
	return nil, nil
}
func (p *moody) Tick(context.Context, time.Time) error { return nil }
func (p *moody) Close(context.Context) error           { return nil }
func (p *moody) Warm(catalog.Partition) bool           { return true }
func (p *moody) Rest()                                 {}
