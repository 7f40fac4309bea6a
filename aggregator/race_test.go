//go:build race

package aggregator

const underRace = true
