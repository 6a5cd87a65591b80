package wal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/processes"
)

// LMDB keeps its readers of all processes in a table of 126 slots in lock.mdb. A
// reader that is stopped within a transaction keeps its snapshot: pages that are
// freed from then on cannot be used again, and the file grows, up to fileLimit.

// ownSlots are taken for the readers of this process when the log is opened, so
// that it goes on when others take all the rest.
const ownSlots = 4

// oldSnapshot is how long a reader may hold a snapshot before it is named. Those
// of this program hold one for some milliseconds.
const oldSnapshot = 5 * time.Second

// watchAgain is how often old snapshots are looked for while there are commits, which
// free the pages that they keep.
const watchAgain = 750 * time.Millisecond

// slotPatience is how long a free slot is waited for.
const slotPatience = 5 * time.Second

// snapshot is what a reader holds.
type snapshot struct {
	pid int
	txn int64
}

// snapshots are those of the readers of all processes that hold one.
func snapshots(env *lmdb.Env) (list []snapshot, slots map[int]int, err error) {
	slots = map[int]int{}
	err = env.ReaderList(func(line string) error { // "pid thread txnid", after a heading; "-" for none
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil
		}
		pid, err := strconv.Atoi(f[0])
		if err != nil {
			return nil
		}
		slots[pid]++
		if txn, err := strconv.ParseInt(f[2], 10, 64); err == nil {
			list = append(list, snapshot{pid, txn})
		}
		return nil
	})
	return list, slots, err
}

// oldestReader is the transaction that the oldest reader sees, in any process, or
// a large number.
func (l *Log) oldestReader() int64 {
	oldest := int64(1) << 62
	list, _, err := snapshots(l.env)
	if err != nil {
		return 0 // nothing is known: nothing is taken for free
	}
	for _, s := range list {
		oldest = min(oldest, s.txn)
	}
	return oldest
}

// watchReaders names those of other processes that have held a snapshot for long.
func (l *Log) watchReaders() {
	l.watch = time.Now()
	list, _, err := snapshots(l.env)
	if err != nil {
		return
	}
	now, seen := time.Now(), make(map[snapshot]time.Time, len(list))
	var old []int
	for _, s := range list {
		if s.pid == os.Getpid() {
			continue
		}
		since, known := l.watched[s]
		if !known {
			since = now
		}
		seen[s] = since
		if now.Sub(since) >= oldSnapshot && !slices.Contains(old, s.pid) {
			old = append(old, s.pid)
		}
	}
	l.watched = seen
	slices.Sort(old)
	l.name(old)
}

// name says who holds old snapshots, when that changes, and not more often than news does.
func (l *Log) name(pids []int) {
	held := heldBy(pids)
	l.state.Lock()
	was := l.heldBy
	l.heldBy = held
	l.state.Unlock()
	l.metrics.OldReaders.Set(float64(len(pids)))
	if held == "" {
		if line := l.old.Over(); line.Say {
			l.log.Info("no old snapshot of the log is held any more", "after", line.For.Round(time.Millisecond))
		}
		return
	}
	if held == was {
		return
	}
	if line := l.old.Failed(held); line.Say {
		l.log.Warn("a reader keeps the log from using free pages again", "processes", processes.Names(pids), "since", line.Since.UTC().Format(time.RFC3339), "times", line.Times)
	}
}

// heldBy says for people that these processes hold old snapshots, "" for none.
func heldBy(pids []int) string {
	if len(pids) == 0 {
		return ""
	}
	return "an old snapshot is held by " + processes.Names(pids) + "; freed pages cannot be used again until it continues or ends"
}

// takeSlots takes the slots of this process.
func (l *Log) takeSlots() error {
	l.slots = make(chan *lmdb.Txn, ownSlots)
	for range ownSlots {
		txn, err := l.env.BeginTxn(nil, lmdb.Readonly)
		if err != nil {
			l.dropSlots()
			return err
		}
		txn.Reset()
		txn.Pooled = true
		l.slots <- txn
	}
	return nil
}

// dropSlots gives them back. No reader may be under way.
func (l *Log) dropSlots() {
	for len(l.slots) > 0 {
		txn := <-l.slots
		txn.Pooled = false
		txn.Abort()
	}
}

// read calls op within a read transaction of one of the slots of this process.
func (l *Log) read(op lmdb.TxnOp) error {
	txn := <-l.slots
	defer func() { l.slots <- txn }()
	txn.Pooled = false
	err := txn.Renew()
	if err == nil {
		txn.RawRead = false
		err = txn.RunOp(op, false)
		txn.Reset()
	}
	txn.Pooled = true
	return err
}

// withSlot calls f, which needs a reader's slot, again as long as all are taken.
// Those of processes that were killed are cleared.
func withSlot(env *lmdb.Env, dir string, f func() error) error {
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		if errno(err) != lmdb.ReadersFull {
			return err
		}
		if n, cerr := env.ReaderCheck(); cerr == nil && n > 0 {
			continue
		}
		if time.Since(begun) > slotPatience {
			return mqttetl.WithHint(fmt.Errorf("read log %s: all slots for readers are taken, by %s: %w", dir, takenBy(env), errors.Join(mqttetl.ErrUnavailable, err)),
				"end some of these processes, and try again")
		}
	}
}

// inspectPatience is how long a snapshot is watched by a process that does not
// watch all the time: others of this program hold one for some milliseconds.
const inspectPatience = time.Second

// held says who holds a snapshot that is not the newest, and goes on to.
func held(env *lmdb.Env) string {
	list, _, err := snapshots(env)
	info, ierr := env.Info()
	if err != nil || ierr != nil {
		return ""
	}
	old := slices.DeleteFunc(list, func(s snapshot) bool { return s.txn >= info.LastTxnID || s.pid == os.Getpid() })
	if len(old) == 0 {
		return ""
	}
	time.Sleep(inspectPatience)
	now, _, err := snapshots(env)
	if err != nil {
		return ""
	}
	var pids []int
	for _, s := range old {
		if slices.Contains(now, s) && !slices.Contains(pids, s.pid) {
			pids = append(pids, s.pid)
		}
	}
	return heldBy(pids)
}

// takenBy names who has slots.
func takenBy(env *lmdb.Env) string {
	_, slots, err := snapshots(env)
	if err != nil {
		return "unknown processes"
	}
	var pids []int
	for pid := range slots {
		pids = append(pids, pid)
	}
	slices.SortFunc(pids, func(a, b int) int { return slots[b] - slots[a] })
	return processes.Names(pids)
}
