// Package replay is Scribe's replaying buffer (replay_buffer=yes): what its
// primary store does not take is kept on the local disk, and sent to it when it
// takes messages again.
//
//	spools, err := replay.OpenSpools(vfs.OS(), "/var/spool/twinscribe", replay.SpoolsOptions{...})
//	spool, err := spools.Spool(replay.SpoolOptions{Dir: catalog.Folder(category), Category: category})
//	chain := replay.New(primary, spool, replay.Options{...})
//
// The primary is any store but clusters, whose chains share one buffer
// (store.Buffer) that store/ship replays; nor does it have a spool of its own.
//
// # States
//
//	STREAMING       new messages go to the primary
//	DISCONNECTED    they go to the spool; the primary is left alone for a while
//	SENDING_BUFFER  the spool is sent, oldest first; new messages go to the spool
//	                behind it, or with LiveFirst to the primary
//
// The first refusal leads to DISCONNECTED, and the same messages go to the spool
// within the same Append. When the wait is over the next Tick leads to
// SENDING_BUFFER: the oldest piece of the spool is the probe. When nothing is
// left it is STREAMING. A chain begins with what an earlier start has left.
//
// # Where a message is
//
// It is the caller's until Append returns nil. Then the primary has it, or it
// lies in a segment of the spool: synced with SpoolOptions.Sync, in the
// operating system's hands without. It stays there until the primary has
// answered for it; only then the cursor moves on, and a segment is removed when
// the cursor is behind its last record.
//
// The cursor is written after each piece and not synced. After a kill nothing
// is sent twice but the piece whose answer was lost, after a power cut more can
// be. A record is sent as the batch that it was, with its chain, its sequences
// and the start that they belong to (store.Batch.Origin): a primary that knows
// batches by these recognises it, also after any number of starts.
//
// It leaves to others: the format of segments (package buffer), that of the
// files an original Scribe has left (buffer/framed), when a chain is made.
package replay
