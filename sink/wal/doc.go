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
// # Why a full disk does not stop it for ever
//
// On a disk of a given size, the log takes whatever it would take there if it
// were new, once all is consumed and no other process holds an old snapshot.
// A new log takes a value if its n bytes, n/64 and 1 MiB more find room after the
// pages of the trees. Of an old one that is empty, these pages may lie anywhere, and the
// rest is either free pages or not yet in the file; a value cannot be partly both.
// putInOrder then makes four transactions:
//
//  1. It takes every free page and all up to the limit of the file for values, which it
//     deletes before it commits. For that LMDB has had to read its whole
//     list of free pages, and it writes it anew in order. From now on, whoever takes a
//     page gets the lowest.
//  2. It does the same again, and writes all anew that is stored. So every page in use
//     is now one of the lowest, but for those that 1 has freed.
//  3. Two that change nothing. After these, what 1 and 2 have freed is free for use.
//
// What is not free then is the trees, LMDB's list (a 512th of the file), and what 3
// has freed, at the low end of the file. The rest is one run, up to the limit. An append to
// an empty log leaves 512 KiB free and not 1 MiB (slack). So the run has n bytes: the n/64
// and 512 KiB that remain are more than list and trees. And 512 KiB are enough to free what
// was appended, because that takes the list of n/512 bytes, which is in the n/64, and a few pages.
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
