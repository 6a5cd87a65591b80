// Package wal is the append log in LMDB on which the promise rests: a batch's
// Done is called without an error only after the transaction that holds its
// records has been committed and synced.
//
// One goroutine, Run, commits. A group commit takes everything that was handed
// over while the previous one was syncing. At most one begins in Options.Interval
// unless a batch is not Patient: who waits is not kept waiting, and transactions are
// large under load. Sequence numbers start at 1 and have no
// holes. Consumers read after their own position, wait without holding a read
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
// # Why a full disk does not stop it for ever
//
// Once all is consumed, the log takes whatever a new log with the same cursors,
// packet ids and dead letters would take on that disk, as long as no other process
// holds an old snapshot. (Where a consumer stores on the same disk, that one
// needs room first, see Options.Drain: the log then takes about as much as a new one, and
// gives its other free pages back to the disk.)
//
// A new log takes a value of n bytes if n, n/64 and 1 MiB have room after the pages
// of its trees. In an old one these pages may lie anywhere. The rest is either
// free pages or not yet in the file, and a value cannot be partly both.
// putInOrder makes four transactions:
//
//  1. The first takes every free page, and all up to the limit of the file, for values
//     that it deletes before it commits. For that, LMDB has to read its whole list of
//     free pages, and writes it anew in order. From now on, who takes a page gets the lowest.
//  2. The second does the same again, and writes all anew that is stored. Every page in use
//     is now one of the lowest, but for those that the first has freed.
//  3. Two more change nothing. After them, what the first two have freed is free for use.
//
// What is not free then lies at the low end of the file: the trees, LMDB's list (a 512th of
// the file), and the few pages that the last two have freed. All the rest is one run. It
// has n bytes and, of the n/64 and 1 MiB, more than the 512 KiB that an append
// must leave in an empty log (slack), because the list takes less than n/64. These 512 KiB
// are enough to free what was appended: that takes another list of n/512 bytes and a few pages.
//
// Each of these is an ordinary transaction of LMDB: a crash or an error leaves
// the state before it or after it, and neither differs in what is stored.
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
