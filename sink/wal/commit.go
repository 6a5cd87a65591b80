package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// housekeepingDelay is how long positions and dead letters may wait for an
// append to travel with before they get a transaction of their own.
const housekeepingDelay = time.Second

// readerCheck is how often the slots of readers that were killed are cleared.
const readerCheck = time.Minute

// Append hands a batch over and returns at once. Its Done is called exactly
// once, in the order in which batches were handed over: without an error after
// the batch is on disk, or with one if it will not be. The caller bounds how
// much it hands over before that.
func (l *Log) Append(b *mqttetl.Batch) {
	if !l.queue.put(b) {
		b.Done(0, fmt.Errorf("append to log: %w", mqttetl.ErrClosed))
	}
}

// Run commits what is handed over until ctx ends, and then returns nil. A
// batch that is not committed by then gets mqttetl.ErrClosed. Any error is the
// drive's or LMDB's: nothing that was waiting has been acknowledged, and the
// log must be opened anew. Run is called once.
func (l *Log) Run(ctx context.Context) error {
	err := l.run(ctx)
	end := err
	if end == nil {
		end = fmt.Errorf("append to log: %w", mqttetl.ErrClosed)
	}
	for _, b := range l.queue.close() {
		b.Done(0, end)
	}
	close(l.done)
	return err
}

func (l *Log) run(ctx context.Context) error {
	idle := time.NewTimer(0) // armed while housekeeping is due
	<-idle.C
	defer idle.Stop()
	armed := false
	readers := time.NewTicker(readerCheck)
	defer readers.Stop()
	look := time.NewTicker(lookIdle)
	defer look.Stop()
	spaced := time.NewTimer(time.Hour) // for the end of an interval
	spaced.Stop()
	defer spaced.Stop()
	for {
		select {
		case <-look.C:
			l.watchReaders()
			if err := l.at.look(); err != nil {
				return err
			}
		case <-l.moved:
			l.at.looked = time.Time{}
			if err := l.at.look(); err != nil {
				return err
			}
		case <-readers.C:
			l.forgetDeadReaders()
		case <-ctx.Done():
			return l.commitAll(ctx, l.queue.take()) // with what waits for the end of an interval
		case <-l.queue.ready:
			if wait := l.spacing(time.Now()); wait > 0 {
				spaced.Reset(wait)
				continue
			}
			if err := l.commitQueued(ctx); err != nil {
				return err
			}
		case <-spaced.C:
			if err := l.commitQueued(ctx); err != nil {
				return err
			}
		case <-l.wake:
			if !armed {
				armed = true
				idle.Reset(housekeepingDelay)
			}
		case <-idle.C:
			first, to := l.first, l.trimmedTo
			if err := l.commitAll(ctx, l.queue.take()); err != nil {
				return err
			}
			if armed = l.trimmable() > l.trimmedTo; !armed {
				continue
			}
			if l.first == first && l.trimmedTo == to { // there was no room for it
				idle.Reset(housekeepingDelay)
			} else {
				idle.Reset(0) // there is more to trim than one transaction may
			}
		}
	}
}

// spacing is how long the next commit is still to wait: the interval since the last
// one began, unless somebody waits.
func (l *Log) spacing(now time.Time) time.Duration {
	if l.queue.waited() {
		return 0
	}
	return l.begun.Add(l.interval).Sub(now)
}

// Hurry has what has been handed over committed at once: somebody waits for it.
func (l *Log) Hurry() { l.queue.hurry() }

// commitQueued commits the next group, if there is one.
func (l *Log) commitQueued(ctx context.Context) error {
	group := l.queue.take()
	if len(group) == 0 {
		return nil
	}
	return l.commitAll(ctx, group)
}

// commitAll commits one group with the housekeeping that is due, waits out a
// full log, and tells every batch of the group how it ended.
func (l *Log) commitAll(ctx context.Context, group []*mqttetl.Batch) error {
	if len(group) == 0 {
		return l.housekeep()
	}
	for len(group) > 0 {
		n, err := l.commitWhenRoom(ctx, group)
		if err == nil {
			group = group[n:]
			continue
		}
		for _, b := range group {
			b.Done(0, err)
		}
		if errors.Is(err, mqttetl.ErrClosed) {
			return nil
		}
		return err
	}
	return nil
}

// housekeep commits the housekeeping alone. It can wait for room without
// holding anybody up.
func (l *Log) housekeep() error {
	if err := l.reclaim(&transaction{}); err != nil {
		return err
	}
	return l.giveBack()
}

// commitWhenRoom commits the first n batches of the group, pausing as long as
// there is no room for one of them. Where there is little room that may be
// fewer than all: a group is what has come, and may be larger than what fits.
func (l *Log) commitWhenRoom(ctx context.Context, group []*mqttetl.Batch) (n int, err error) {
	n = len(group)
	for round := 0; ; {
		err := l.attempt(l.transaction(group[:n]))
		full := asFull(err)
		if full == nil {
			if err == nil && n == len(group) {
				l.resume()
			}
			return n, err
		}
		if n > 1 {
			n /= 2
			continue
		}
		if round > 0 {
			l.pause(full)
			if err := l.waitForRoom(ctx); err != nil {
				return 0, err
			}
		}
		if err := l.makeRoom(group[0], full, round); err != nil {
			return 0, err
		}
		n = len(group)
		round++
	}
}

// transaction is one of group and the housekeeping that is due.
func (l *Log) transaction(group []*mqttetl.Batch) *transaction {
	t := &transaction{log: l, runs: runs(group), group: group}
	for i := range t.runs {
		t.bytes += int64(t.runs[i].size)
	}
	t.trimAtMost = trimAtOnce + 2*len(t.runs)
	return t
}

// attempt makes the transaction.
func (l *Log) attempt(t *transaction) error {
	l.committing.Store(time.Now().UnixNano()) // reserving can hang on a sick drive too
	defer l.committing.Store(0)
	if err := l.at.look(); err != nil {
		return err
	}
	if time.Since(l.watch) > watchAgain {
		l.watchReaders()
	}
	if err := l.checkSize(t.bytes); err != nil {
		return err
	}
	grow, err := l.checkDrain(t)
	if err != nil {
		return err
	}
	noRoom, reserved := error(unix.ENOSPC), l.room.reserved
	if !t.lastResort {
		noRoom = l.room.reserve(t.bytes, grow)
	}
	if noRoom != nil && !isNoSpace(noRoom) {
		return noRoom
	}
	if err := l.growth(t, noRoom); err != nil {
		return err
	}
	err = l.commit(t)
	if err == nil {
		l.drain.appended(t, l.room.reserved-reserved)
	}
	if errors.Is(err, ErrGone) {
		return err
	}
	if err != nil && l.lacksRoom(err, noRoom != nil, t.bytes) {
		return l.fullBy(err, noRoom)
	}
	if err = markDamage(err); errors.Is(err, mqttetl.ErrDamaged) {
		return mqttetl.WithHint(fmt.Errorf("commit log %s: %w", l.dir, err), "nothing that was waiting has been acknowledged; mqttetl verify says more")
	}
	if err != nil {
		return mqttetl.WithHint(fmt.Errorf("commit log %s: %w", l.dir, driveError{err}),
			"nothing that was waiting has been acknowledged; look at the drive (dmesg) before starting again")
	}
	return nil
}

// fullBy says what there is too little of.
func (l *Log) fullBy(err, noRoom error) error {
	pages := lmdb.IsMapFull(err)
	if pages && noRoom == nil {
		return &fullError{fmt.Errorf("its file may have %s with log.max_size %s", mqttetl.FormatSize(l.mapped), mqttetl.FormatSize(l.maxSize)), true}
	}
	if pages {
		err = noRoom
	}
	return &fullError{fmt.Errorf("disk of %s: %w", l.dir, err), pages}
}

// lacksRoom tells a commit that failed for lack of room from one that the drive
// failed. EIO can be either: it is a short write where room could not be
// reserved, or where a file system without reservation, or with copy-on-write,
// has too little left. Such a commit may be tried again whatever failed in it,
// because the next attempt writes every page of the transaction anew.
func (l *Log) lacksRoom(err error, notReserved bool, n int64) bool {
	if isNoSpace(err) || lmdb.IsMapFull(err) {
		return true
	}
	return errno(err) == unix.EIO && (notReserved || l.room.nearlyFull(n))
}

// checkSize refuses to grow a log that has reached its max_size, unless all that
// is left in it is the last segment, which only an append can make room for.
func (l *Log) checkSize(n int64) error {
	if n == 0 || l.pages < l.maxSize {
		return nil
	}
	if l.segments == 1 && l.trimmable() >= l.last {
		return nil
	}
	return &fullError{fmt.Errorf("its %s have reached log.max_size, %s", mqttetl.FormatSize(l.pages), mqttetl.FormatSize(l.maxSize)), false}
}

// commit runs the transaction and takes its outcome over.
func (l *Log) commit(t *transaction) error {
	begin := time.Now()
	l.begun = begin
	l.txn.Lock()
	err := l.update(t.write)
	if err == nil {
		err = l.at.check()
	}
	if err == nil {
		l.takeOver(t)
	}
	l.txn.Unlock()
	if err != nil {
		return err
	}
	l.metrics.CommitSeconds.Observe(time.Since(begin).Seconds())
	if t.records > 0 {
		l.metrics.CommitMessages.Observe(float64(t.records))
	}
	l.metrics.Bytes.Set(float64(t.pages))
	if err := l.measure(); err != nil {
		return err
	}
	for i, b := range t.group {
		b.More = i+1 < len(t.group) && t.group[i+1].Session == b.Session
		b.Done(t.firsts[i], nil)
	}
	return nil
}

// measure notes how large the file is.
func (l *Log) measure() error {
	end, err := l.room.end()
	if err != nil {
		return err
	}
	l.state.Lock()
	l.file = end
	l.state.Unlock()
	l.metrics.File.Set(float64(end))
	return nil
}

// takeOver makes the committed transaction the state of the log and wakes the
// consumers that wait for records.
func (l *Log) takeOver(t *transaction) {
	for _, c := range t.moved {
		c.c.stored.Store(uint64(c.to))
	}
	l.trimmedTo = t.trimmedTo
	if t.records > 0 {
		l.passes = 0
	}
	l.state.Lock()
	l.first, l.last, l.pages, l.segments = t.first, t.last, t.pages, t.segments
	l.dead.committed(t.dead)
	l.metrics.DeadLetters.Set(float64(l.dead.stored))
	if t.records > 0 && l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	l.state.Unlock()
}
