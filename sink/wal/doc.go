// Package wal is the append log in LMDB on which the promise rests: a batch's
// Done is called without an error only after the transaction that holds its
// records has been committed and synced.
//
// One goroutine, Run, commits. A group commit takes everything that was handed
// over while the previous one was syncing: no timer, no added latency when
// idle, large transactions under load. Sequence numbers start at 1 and have no
// holes. Consumers read behind their own position, wait without holding a read
// transaction, and tell the log how far they are durable; segments that every
// consumer is durably past are deleted inside later transactions, a bounded
// number in each.
//
// # Errors of a commit
//
// Room for a transaction is reserved in the file before LMDB writes it. So an
// error of the write is either a lack of room, which was known before it (the
// log pauses: it keeps what it was given, acknowledges nothing and tries again
// until there is room), or an error of the drive. The latter ends Run: what a
// failed sync left behind cannot be trusted, and a restart reads what is there.
//
// # Caveats
//
// A log is opened by one process for writing and, within it, once. LMDB keeps
// no checksums; each segment has one (CRC32C), checked whenever it is read. The
// pages of LMDB's own trees have none: before LMDB follows them, they are read
// and held against the rules that LMDB writes them by (tree.go). A log of very
// many small segments is so checked only in part, and damage that happens
// later is not seen; so Verify should run in a process of its own. A
// drive that lies about flush lies to this log too.
package wal
