// Package aggregator takes Log calls and hands their messages on, as batches,
// to one chain of stores for each category, or to several (Rule). It holds all
// that lies between the wire and a chain: which chains a category has, admission
// of a whole call or nothing of it, a queue for each chain with one goroutine
// that drives it, the acknowledgement, the books, reload and stop.
//
// It leaves to others: the wire (package thrift), what a chain does with a
// batch (package store and below), reading the configuration (package conf)
// and building chains from it (the program).
//
// # Where a message is
//
// Log copies each message once, into the arena of the batch that its queue is
// filling. From there on the queue owns it, until the chain's Append answers
// nil (a place owns it), until the batch is withdrawn (the client was told
// TRY_LATER and owns it still), or until Stop hands it to Options.Rescue or
// counts it as left.
//
// Where a rule has several routes, or one that is split, this goes for each copy
// by itself: every lane has a queue, books and a place of its own for what it
// took, and an OK under AckStored waits for all of them. A blank category's
// messages and over-long ones are dead letters, whatever the rule: they are
// copied once, and the client hears OK when they are stored, also under
// AckReceived.
//
// # Locks
//
// Four, always taken in this order and never held across I/O or a wait (a few
// more guard one field each, and nothing is taken below them):
//
//	folding      read: while all accounts are looked through
//	             written: while one is moved into another
//	gate         read: from a call's admission to the last of its copies.
//	             written: the moment of a reload's swap and of a stop
//	mu           the categories there are, and which queue each has
//	category.mu  one category, or one lane of it: its book and its pending batches
//
// A chain is called with none of them held.
package aggregator
