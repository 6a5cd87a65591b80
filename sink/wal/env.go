package wal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

const (
	dataFile    = "data.mdb"     // LMDB's name
	readersFile = "lock.mdb"     // LMDB's name, of the table of readers
	lockFile    = "mqttetl.lock" // held while the log is open for writing
	newDir      = "new"          // where an environment is made before it is given its name

	formatVersion = 1
	// The default sync mode; never NoSync, NoMetaSync or WriteMap. Not NoReadahead
	// either: a log is read in order.
	envFlags = lmdb.NoMemInit
)

// dbs are the named databases of the environment.
type dbs struct {
	segments lmdb.DBI // first Seq (8 bytes big endian) → segment
	cursors  lmdb.DBI // consumer → Seq (8 bytes big endian) it is durable up to
	ids      lmdb.DBI // hash of the session, packet id (2 bytes big endian) → 1: the QoS 2 state
	dead     lmdb.DBI // Seq NUL stage → time, reason
	meta     lmdb.DBI // "id", "key", "format"
}

// names pairs each database with its name.
func (d *dbs) names() map[string]*lmdb.DBI {
	return map[string]*lmdb.DBI{
		"segments": &d.segments, "cursors": &d.cursors, "ids": &d.ids, "dead": &d.dead, "meta": &d.meta,
	}
}

// lockDir takes the write lock of the log in dir. A file of that name that no
// log has made is left as it is: who may write the directory could put a link
// to another file there.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, foreignLock(dir, path)
	}
	if err != nil {
		return nil, mqttetl.WithHint(fmt.Errorf("open log %s: %w", dir, err), "log.dir must be a directory that this user may write")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, mqttetl.WithHint(fmt.Errorf("open log %s: %w (pid %s)", dir, mqttetl.ErrLocked, pid),
			"stop that process, or give this one a log.dir of its own")
	}
	if !isLock(f) {
		f.Close()
		return nil, foreignLock(dir, path)
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0) // only for the message above; a full disk must not keep the log closed
	return f, nil
}

// unlock gives a lock back. To close the file is not enough: a process that is just being
// started by this one, such as a worker of jq, has all descriptors until it is another program.
func unlock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

// isLock reports whether f is what lockDir makes: a regular file
// that holds nothing or the number of a process.
func isLock(f *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > 20 {
		return false
	}
	text := make([]byte, st.Size)
	if _, err := f.ReadAt(text, 0); err != nil && err != io.EOF {
		return false
	}
	return len(bytes.Trim(text, "0123456789")) == 0
}

func foreignLock(dir, path string) error {
	return mqttetl.WithHint(fmt.Errorf("open log %s: %s is no lock of a log", dir, path),
		"it was left as it is; find out who put it there, and remove it")
}

// openEnv opens the environment in dir, whose map may grow to mapSize bytes.
func openEnv(dir string, mapSize int64, flags uint) (env *lmdb.Env, err error) {
	if env, err = lmdb.NewEnv(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			env.Close()
			env = nil
		}
	}()
	if err = env.SetMaxDBs(8); err != nil {
		return env, err
	}
	if err = env.SetMapSize(mapSize); err != nil {
		return env, err
	}
	if err = reserveReaders(dir, flags); err != nil {
		return env, fmt.Errorf("open log %s: room for %s: %w", dir, readersFile, err)
	}
	if err = env.Open(dir, flags, 0o640); err != nil {
		return env, fmt.Errorf("open log %s: %w", dir, markDamage(err))
	}
	return env, nil
}

// reserveReaders makes room on the disk for the table of readers. LMDB writes it through
// memory, and a page without room would end the process by a signal.
func reserveReaders(dir string, flags uint) error {
	const size = 8 << 10 // for 126 readers
	if flags&lmdb.NoLock != 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, readersFile), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil // LMDB says it
	}
	defer f.Close()
	if err := fallocate(int(f.Fd()), 0, size, size); isNoSpace(err) {
		return err
	}
	return nil
}

// forgetHead has the kernel drop the first pages of the data file from its cache. Pages that
// were written at once, as those of a new log, are one unit there. It counts all of it as
// written whenever a part is, and a meta page is with every commit: a third of what
// a small commit seemed to write.
func forgetHead(dir string) {
	f, err := os.Open(filepath.Join(dir, dataFile))
	if err != nil {
		return // LMDB says it
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, 64<<10, unix.FADV_DONTNEED) // an error changes only what is counted
}

// noCopyOnWrite has btrfs overwrite the files that will be made in dir, as other
// file systems do. By copying, it would need room for a page that is in
// the file already: on a full disk neither the log nor the table of readers
// could be written. Segments have checksums of their own.
func noCopyOnWrite(dir string) {
	const flag = 0x00800000 // FS_NOCOW_FL
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	var fs unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &fs) != nil || fs.Type != unix.BTRFS_SUPER_MAGIC {
		return
	}
	if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&flag == 0 {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|flag)) // without it, only a full disk is worse
	}
}

// markDamage marks the errors by which LMDB says that a file is not what it wrote.
func markDamage(err error) error {
	switch errno(err) {
	case lmdb.Invalid, lmdb.Corrupted, lmdb.VersionMismatch, lmdb.PageNotFound, lmdb.PageFull, lmdb.CursorFull, lmdb.KeyExist, lmdb.BadTxn:
		return fmt.Errorf("%w: %w", mqttetl.ErrDamaged, err)
	}
	return err
}

// create makes a new, empty log in dir. It gets its name only when it is whole
// and synced, so that a crash leaves either no log or an empty one.
func create(dir string) error {
	tmp := filepath.Join(dir, newDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o750); err != nil {
		return err
	}
	noCopyOnWrite(dir)
	noCopyOnWrite(tmp)
	if err := initialise(tmp); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(tmp, dataFile), filepath.Join(dir, dataFile)); err != nil {
		return err
	}
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	return syncDir(dir)
}

// initialise makes an environment with empty databases and a random log id.
func initialise(dir string) error {
	env, err := openEnv(dir, 1<<20, envFlags)
	if err != nil {
		return err
	}
	defer env.Close()
	var id [8]byte
	rand.Read(id[:])
	return env.Update(func(txn *lmdb.Txn) error {
		var d dbs
		for name, dbi := range d.names() {
			if *dbi, err = txn.OpenDBI(name, lmdb.Create); err != nil {
				return err
			}
		}
		if err := txn.Put(d.meta, []byte("format"), []byte{formatVersion}, 0); err != nil {
			return err
		}
		if err := txn.Put(d.meta, metaKey, newKey(), 0); err != nil {
			return err
		}
		return txn.Put(d.meta, []byte("id"), []byte(hex.EncodeToString(id[:])), 0)
	})
}

// makeDir makes dir and what is missing above it, with names that are durable.
func makeDir(dir string) error {
	made := []string{}
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, d)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, d := range made {
		if err := syncDir(filepath.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// openDBs opens the named databases and reads the log id.
func openDBs(txn *lmdb.Txn) (d dbs, id string, err error) {
	for name, dbi := range d.names() {
		if *dbi, err = txn.OpenDBI(name, 0); err != nil {
			return d, "", fmt.Errorf("database %q: %w: %w", name, mqttetl.ErrDamaged, err)
		}
	}
	format, err := txn.Get(d.meta, []byte("format"))
	if err != nil || len(format) != 1 {
		return d, "", fmt.Errorf("format version: %w", mqttetl.ErrDamaged)
	}
	if format[0] != formatVersion {
		return d, "", mqttetl.WithHint(fmt.Errorf("%w: the log has format %d, this program reads %d", mqttetl.ErrDamaged, format[0], formatVersion),
			"use the version of mqttetl that wrote it")
	}
	p, err := txn.Get(d.meta, []byte("id"))
	if err != nil || len(p) != 16 {
		return d, "", fmt.Errorf("log id: %w", mqttetl.ErrDamaged)
	}
	return d, string(p), nil
}

// Offsets in an LMDB 0.9 meta page (64 bit): a page header of 16 bytes, then
// magic, version, address, map size, two database records of 48 bytes (the
// first begins with the page size), last page, transaction id.
const (
	metaMagicAt = 16
	metaPsizeAt = 40
	metaLastAt  = 136
	metaTxnAt   = 144
	metaEnd     = 152
	metaMagic   = 0xBEEFC0DE
)

// metaPage is what is read of a meta page.
type metaPage struct {
	psize, last int64
	txn         uint64
}

// fileExtent reads both meta pages of path and returns the number of bytes that
// the newer one says the file must have. LMDB maps the file without looking, and
// a page that is missing at its end kills the process that reads it.
func fileExtent(path string) (need, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	m, err := newestMeta(f)
	if err != nil {
		return 0, st.Size(), fmt.Errorf("%s of %d bytes: %w: %w", path, st.Size(), mqttetl.ErrDamaged, err)
	}
	return (m.last + 1) * m.psize, st.Size(), nil
}

// newestMeta reads the meta pages, which LMDB writes in turn: a transaction
// that is not the next one of the other's is none that it wrote, and would
// have it take an older state for the newest.
func newestMeta(f *os.File) (m metaPage, err error) {
	for {
		first, err := readMeta(f, 0)
		if err != nil {
			return m, err
		}
		second, err := readMeta(f, first.psize)
		if err != nil {
			return m, err
		}
		again, err := readMeta(f, 0)
		if err != nil {
			return m, err
		}
		if again.txn != first.txn { // a process that writes has come between
			continue
		}
		newer, older := first, second
		if second.txn > first.txn {
			newer, older = second, first
		}
		if newer.txn != 0 && (newer.txn-older.txn != 1 || first.txn%2 != 0) {
			return m, fmt.Errorf("meta pages of transactions %d and %d", first.txn, second.txn)
		}
		return newer, nil
	}
}

func readMeta(f *os.File, at int64) (m metaPage, err error) {
	page := make([]byte, metaEnd)
	if _, err := f.ReadAt(page, at); err != nil || binary.NativeEndian.Uint32(page[metaMagicAt:]) != metaMagic {
		return m, fmt.Errorf("no valid meta page at %d", at)
	}
	m.psize = int64(binary.NativeEndian.Uint32(page[metaPsizeAt:]))
	m.last = int64(binary.NativeEndian.Uint64(page[metaLastAt:]))
	m.txn = binary.NativeEndian.Uint64(page[metaTxnAt:])
	if !isPageSize(m.psize) || m.last < 1 || m.last > 1<<48 {
		return m, fmt.Errorf("meta page at %d: page size %d, last page %d", at, m.psize, m.last)
	}
	return m, nil
}

// isPageSize says whether LMDB can have pages of n bytes.
func isPageSize(n int64) bool { return 512 <= n && n <= 1<<16 && n&(n-1) == 0 }

// checkExtent refuses a file that is shorter than its own meta page says.
func checkExtent(dir string) error {
	path := filepath.Join(dir, dataFile)
	need, size, err := fileExtent(path)
	if err != nil {
		return err
	}
	if need <= 0 || size < need {
		return mqttetl.WithHint(fmt.Errorf("%s: %d bytes, its meta page says %d: truncated: %w", path, size, need, mqttetl.ErrDamaged),
			"restore the file, or move the directory aside to begin a new log")
	}
	return nil
}

// exists says whether there is a log in dir.
func exists(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, dataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
