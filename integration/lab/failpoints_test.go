package lab

import "testing"

func TestEachFailPointStandsInOnePlace(t *testing.T) {
	if n := len(FailPoints(t)); n < 50 {
		t.Errorf("%d fail points found", n)
	}
}
