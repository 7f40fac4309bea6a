package lab

import "slices"

// Median is the middle one of what a function says of some samples, of which
// there is one at least.
func Median[T any](samples []T, of func(T) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
