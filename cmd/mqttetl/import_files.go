package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/importer"
)

// checkFiles finds, before anything is read, what cannot be read or be written.
func (f *importFlags) checkFiles(paths []string, stat func(string) (os.FileInfo, error)) error {
	checked := map[string]string{} // file for rejected lines, and of whose
	for _, path := range paths {
		rejected := f.rejectedOf(path)
		if _, ok := checked[rejected]; ok {
			continue
		}
		checked[rejected] = path
		if err := importer.CheckRejected(rejected); err != nil {
			return mqttetl.WithHint(err, "--rejected FILE puts rejected lines elsewhere")
		}
	}
	inputs := map[inode]string{}
	for _, path := range paths {
		if path == "-" {
			continue
		}
		info, err := stat(path)
		if err != nil {
			return err
		}
		inputs[inodeOf(info)] = path
	}
	for _, path := range paths {
		rejected := f.rejectedOf(path)
		if checked[rejected] != path {
			continue
		}
		info, err := stat(rejected)
		if err != nil {
			continue // it is made when the first line comes
		}
		if input, ok := inputs[inodeOf(info)]; ok {
			return importer.OptionError{Err: fmt.Errorf("%s is to be imported, and is the file for rejected lines of %s", input, path)}
		}
	}
	return nil
}

// inode is what a file is known by whatever its path.
type inode struct{ device, number uint64 }

func inodeOf(info os.FileInfo) inode {
	s := info.Sys().(*syscall.Stat_t)
	return inode{uint64(s.Dev), s.Ino}
}

// replaceRejected takes away what an earlier import of these files has left in
// --rejected, unless lines of other files are there too.
func (f *importFlags) replaceRejected(paths []string) (err error) {
	if f.rejected == "" {
		return nil
	}
	if f.rejected, err = filepath.Abs(f.rejected); err != nil || f.resume {
		return err
	}
	names := map[string]bool{}
	for _, path := range paths {
		name, err := inputName(path)
		if err != nil {
			return err
		}
		names[name] = true
	}
	only, err := importer.HoldsOnly(f.rejected, names)
	if err != nil || !only {
		return err
	}
	if err = os.Truncate(f.rejected, 0); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// rejectedOf is where the lines of a file go that cannot be read.
func (f *importFlags) rejectedOf(path string) string {
	switch {
	case f.rejected != "":
		return f.rejected
	case path == "-":
		return "stdin.rejected"
	}
	return path + ".rejected"
}

// input is a file to be imported.
type input struct {
	io.ReadCloser
	name string // what the log knows it by
}

// inputName is what the log knows an input by.
func inputName(path string) (string, error) {
	if path == "-" {
		return path, nil
	}
	return filepath.Abs(path)
}

// openInput opens a file, or standard input as -.
func openInput(std streams, path string) (in input, err error) {
	if in.name, err = inputName(path); err != nil {
		return in, err
	}
	if path == "-" {
		in.ReadCloser = io.NopCloser(std.in)
		return in, nil
	}
	in.ReadCloser, err = os.Open(path)
	return in, err
}
