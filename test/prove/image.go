package prove

import (
	"maps"
	"os"
	"path/filepath"
)

// changeKind is what a change does to a file or to a name.
type changeKind int

const (
	written changeKind = iota // bytes of a file
	resized                   // its length
	named                     // a new name for a file
	renamed                   // another one
	removed                   // none any more
)

// change is one change of the files of the service. Writes are at most a page.
type change struct {
	kind     changeKind
	file     int    // which file, whatever its name
	name, to string // of a file, relative; to: for renamed
	at       int64  // offset, or the new length
	data     []byte
	grow     bool // resized: never shrinks
	begin    int  // from here on it may be on the drive
	returned int  // the call that made it
	durable  int  // from here on it is on the drive
}

// owner is what a sync must be of to make the change durable: the file, or the
// directory that holds the name.
func (c *change) owner() any {
	switch c.kind {
	case written, resized:
		return c.file
	case renamed:
		return filepath.Dir(c.to)
	}
	return filepath.Dir(c.name)
}

// image is the state of the files at one moment.
type image struct {
	files map[int]content
	names map[string]int
}

// content is a file; behind data are zeros up to size.
type content struct {
	data []byte
	size int64
}

func newImage() *image { return &image{map[int]content{}, map[string]int{}} }

// clone copies what apply changes.
func (m *image) clone() *image {
	c := &image{maps.Clone(m.files), maps.Clone(m.names)}
	for i, f := range c.files {
		c.files[i] = content{append([]byte(nil), f.data...), f.size}
	}
	return c
}

// apply makes one change.
func (m *image) apply(c *change) {
	f := m.files[c.file]
	switch c.kind {
	case written:
		end := c.at + int64(len(c.data))
		if grown := end - int64(len(f.data)); grown > 0 {
			f.data = append(f.data, make([]byte, grown)...)
		}
		copy(f.data[c.at:], c.data)
		f.size = max(f.size, end)
	case resized:
		if c.grow && c.at < f.size {
			break
		}
		f.size = c.at
		f.data = f.data[:min(int64(len(f.data)), c.at)]
	case named:
		m.names[c.name] = c.file
	case renamed:
		delete(m.names, c.name)
		m.names[c.to] = c.file
	case removed:
		delete(m.names, c.name)
	}
	m.files[c.file] = f
}

// write makes the files in dir.
func (m *image) write(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o750); err != nil {
		return err
	}
	for name, i := range m.names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, m.files[i].data, 0o640); err != nil {
			return err
		}
		if err := os.Truncate(path, m.files[i].size); err != nil {
			return err
		}
	}
	return nil
}
