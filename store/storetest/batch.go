package storetest

import (
	"time"

	"twinscribe/store"
	"twinscribe/store/catalog"
)

// Partition is the one that Batch uses.
const Partition catalog.Partition = "dt=2026-11-22/hr=10"

// Batch makes a batch of category "web", chain 7, whose first message has the
// sequence first.
func Batch(first uint64, messages ...string) *store.Batch {
	b := &store.Batch{
		Category: "web", Chain: 7, Partition: Partition, First: first,
		Arrived: time.Date(2026, 11, 22, 10, 7, 0, 0, time.UTC).UnixNano(),
		Senders: []string{"10.0.0.1"},
	}
	for _, m := range messages {
		b.Data = append(b.Data, m...)
		b.Data = append(b.Data, '\n')
		b.Ends = append(b.Ends, uint32(len(b.Data)))
	}
	return b
}
