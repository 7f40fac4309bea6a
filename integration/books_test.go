//go:build integration

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// tally is a number of messages and their bytes.
type tally struct {
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
}

func (a tally) plus(b tally) tally { return tally{a.Messages + b.Messages, a.Bytes + b.Bytes} }

// account is a book of /v1/status.
type account struct {
	Category    string           `json:"category"`
	Offered     tally            `json:"offered"`
	Accepted    tally            `json:"accepted"`
	Refused     map[string]tally `json:"refused"`
	Stored      map[string]tally `json:"stored"`
	Dropped     tally            `json:"dropped"`
	Withdrawn   tally            `json:"withdrawn"`
	Queued      tally            `json:"queued"`
	InFlight    tally            `json:"in_flight"`
	Unaccounted tally            `json:"unaccounted"`
}

// snapshot is /v1/status as the proofs of the books read it.
type snapshot struct {
	Clusters []struct {
		Name     string `json:"name"`
		Switches int64  `json:"switches"`
	} `json:"clusters"`
	Totals     account   `json:"totals"`
	Other      account   `json:"other"`
	Categories []account `json:"categories"`
}

func sumStored(m map[string]tally) (sum tally) {
	for _, n := range m {
		sum = sum.plus(n)
	}
	return sum
}

// balance says what does not add up. Nothing may be unaccounted for.
func (a account) balance() error {
	if want := a.Accepted.plus(sumStored(a.Refused)); a.Offered != want {
		return fmt.Errorf("%q: offered %v, accepted and refused %v", a.Category, a.Offered, want)
	}
	if want := sumStored(a.Stored).plus(a.Dropped).plus(a.Withdrawn).plus(a.Queued).plus(a.InFlight); a.Accepted != want {
		return fmt.Errorf("%q: accepted %v, stored, dropped, withdrawn, queued and in flight %v", a.Category, a.Accepted, want)
	}
	if a.Unaccounted != (tally{}) {
		return fmt.Errorf("%q: unaccounted for %v", a.Category, a.Unaccounted)
	}
	return nil
}

// places are the messages stored, by place.
func (a account) places() string {
	var parts []string
	for _, place := range slices.Sorted(maps.Keys(a.Stored)) {
		parts = append(parts, fmt.Sprintf("%s %d", place, a.Stored[place].Messages))
	}
	return strings.Join(parts, ", ")
}

// check says whether each book balances, and the total, and whether the total is the sum.
func (s snapshot) check() error {
	errs := []error{s.Totals.balance(), s.Other.balance()}
	offered, accepted, stored := s.Other.Offered, s.Other.Accepted, sumStored(s.Other.Stored)
	for _, a := range s.Categories {
		errs = append(errs, a.balance())
		offered, accepted, stored = offered.plus(a.Offered), accepted.plus(a.Accepted), stored.plus(sumStored(a.Stored))
	}
	if s.Totals.Offered != offered || s.Totals.Accepted != accepted || sumStored(s.Totals.Stored) != stored {
		errs = append(errs, fmt.Errorf("totals: offered %v, accepted %v, stored %v, but the categories have %v, %v, %v",
			s.Totals.Offered, s.Totals.Accepted, sumStored(s.Totals.Stored), offered, accepted, stored))
	}
	return errors.Join(errs...)
}

// follows says what the next snapshot has less of: what was offered, accepted or stored stays so.
func (s snapshot) follows(before snapshot) error {
	for place, n := range before.Totals.Stored {
		if s.Totals.Stored[place].Messages < n.Messages {
			return fmt.Errorf("stored on %s: %d after %d", place, s.Totals.Stored[place].Messages, n.Messages)
		}
	}
	if s.Totals.Offered.Messages < before.Totals.Offered.Messages || s.Totals.Accepted.Messages < before.Totals.Accepted.Messages {
		return fmt.Errorf("offered %v and accepted %v after %v and %v", s.Totals.Offered, s.Totals.Accepted, before.Totals.Offered, before.Totals.Accepted)
	}
	return nil
}

func (s snapshot) switches() (n int64) {
	for _, c := range s.Clusters {
		n += c.Switches
	}
	return n
}

func (s snapshot) category(t *testing.T, name string) account {
	t.Helper()
	for _, a := range s.Categories {
		if a.Category == name {
			return a
		}
	}
	t.Fatalf("no book of %s", name)
	return account{}
}

// listed is what the proofs look at in a line of `twinscribe ls --json`.
type listed struct {
	Category string `json:"category"`
	Place    string `json:"place"`
	State    string `json:"state"`
	Messages int64  `json:"messages"`
	Reason   string `json:"reason"`
	Missing  string `json:"missing"`
}

func listedItem(t *testing.T, line []byte) (i listed) {
	t.Helper()
	if err := json.Unmarshal(line, &i); err != nil {
		t.Fatalf("ls: %v: %s", err, line)
	}
	return i
}
