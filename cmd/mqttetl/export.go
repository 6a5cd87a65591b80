package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/export"
	"github.com/mqttetl/mqttetl/sink/history"
)

// exportFlags say in which form the records are written, and where to.
type exportFlags struct {
	selectionFlags
	format, compress string
	out              string
	quiet            bool
}

var (
	exportFormats = []string{"ndjson", "csv", "parquet"} // the last one not in the small build
	compressions  = []string{"none", "gzip", "zstd"}
)

func newExport(std streams) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write recorded messages as NDJSON, CSV or Parquet",
		Long: `Export writes the records of the archive, and those of the log that are not
archived yet, in the order in which they were received. It reads while the service
runs, does not hold it up, and writes what is there when it begins.

NDJSON has the keys of mosquitto_sub's %J and then seq, source and time with
nanoseconds. A payload that is not text is in payload_base64. The same records give
the same bytes each time; mqttetl import reads them back.

A file of --out gets its name when it is whole. Without --format and --compress, its
name decides: .ndjson, .csv and .parquet, then .gz or .zst.

Exit codes: 0 written, also when no record matches, 65 damaged or foreign stores,
69 nothing has been recorded yet, 74 an archive that --archive names cannot be
read or the output not be written, 78 bad configuration.`,
		Example: `  mqttetl export --since yesterday --topic 'factory/+/temp' | jq .payload
  mqttetl export --since 2026-01-01 --until 2026-02-01 --out january.parquet
  mqttetl export --out all.ndjson.zst
  mqttetl export --archive backup.db --seq 1..1000 --format csv`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := f.check(cmd.Flags().Changed)
			if err == nil {
				err = f.checkTerminal(std.out)
			}
			if err != nil {
				return usageError{err, cmd}
			}
			h, sel, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer h.Close()
			return f.run(cmd.Context(), std, h.Select(sel).Reuse(export.Ahead))
		},
	}
	f.selectionFlags.add(cmd)
	cmd.Flags().StringVar(&f.format, "format", "ndjson", "one of "+strings.Join(exportFormats, ", ")+"; else what the name of --out says")
	cmd.Flags().StringVar(&f.compress, "compress", "none", "one of "+strings.Join(compressions, ", ")+"; else what the name of --out says; Parquet is zstd within")
	cmd.Flags().StringVar(&f.out, "out", "-", "file to write; - is standard output")
	cmd.Flags().BoolVar(&f.quiet, "no-progress", false, "no progress on a terminal")
	return cmd
}

func (f *exportFlags) check(given func(flag string) bool) error {
	if !slices.Contains(exportFormats, f.format) {
		return fmt.Errorf("--format %s: must be one of %s", f.format, strings.Join(exportFormats, ", "))
	}
	if !slices.Contains(compressions, f.compress) {
		return fmt.Errorf("--compress %s: must be one of %s", f.compress, strings.Join(compressions, ", "))
	}
	if err := f.byName(given); err != nil {
		return err
	}
	if f.format == "parquet" && exportParquet == nil {
		return leftOut("--format parquet")
	}
	if f.format == "parquet" && f.compress != "none" {
		return fmt.Errorf("parquet is compressed within, a reader could not open it inside %s: leave that out", f.compress)
	}
	if st, err := os.Stat(f.out); err == nil && st.IsDir() {
		return fmt.Errorf("--out %s is a directory: must be a file, or - for standard output", f.out)
	}
	return nil
}

// run writes everything and says how much it was where that is not in the way.
func (f *exportFlags) run(ctx context.Context, std streams, records *history.Cursor) error {
	src := &watched{cursor: records, progress: newProgressLine(std.err, f.quiet || f.out == "-" && isTerminal(std.out))}
	src.first, src.last = records.Bounds()
	n, err := f.write(ctx, std.out, src)
	src.progress.clear()
	switch {
	case err != nil:
		return err
	case n == 0:
		fmt.Fprintln(std.err, noRecords)
	case f.out != "-":
		fmt.Fprintf(std.err, "exported %d records to %s\n", n, f.out)
	}
	return nil
}

func (f *exportFlags) write(ctx context.Context, stdout io.Writer, src export.Source) (n uint64, err error) {
	if f.out == "-" {
		return f.encode(ctx, stdout, src)
	}
	path := behindLinks(f.out)
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() { // a device, a pipe: not ours to replace
		return f.writeInto(ctx, path, src)
	}
	const part = ".part-"
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+part)
	if err != nil {
		return 0, asTyped(err, path+part, f.out)
	}
	n, err = f.encode(ctx, file, src)
	if err == nil {
		err = errors.Join(file.Chmod(0o640), file.Sync())
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name()) // it would only look like an export
	}
	return n, asTyped(err, path+part, f.out)
}

// behindLinks is the file that a path means, which need not be there yet.
func behindLinks(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	target, err := os.Readlink(path)
	if err != nil {
		return path
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	return target
}

// writeInto writes to what is no file.
func (f *exportFlags) writeInto(ctx context.Context, path string, src export.Source) (n uint64, err error) {
	file, err := openBlocking(ctx, path)
	if err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = file.SetWriteDeadline(time.Now()) })() // a device has none, and does not block
	n, err = f.encode(ctx, file, src)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return n, errors.Join(err, file.Close())
}

// openBlocking opens a path for writing. A pipe makes it wait until somebody
// reads, or ctx ends.
func openBlocking(ctx context.Context, path string) (*os.File, error) {
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		done <- opened{file, err}
	}()
	select {
	case o := <-done:
		return o.file, o.err
	case <-ctx.Done():
		// Somebody who reads lets the call return. Without permission for that, the call stays.
		if reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			if o := <-done; o.err == nil {
				_ = o.file.Close() // nothing was written
			}
			_ = reader.Close()
		}
		return nil, fmt.Errorf("%s: nobody has opened it for reading: %w", path, ctx.Err())
	}
}

func (f *exportFlags) encode(ctx context.Context, w io.Writer, src export.Source) (n uint64, err error) {
	out, err := compressor(w, f.compress)
	if err != nil {
		return 0, err
	}
	switch f.format {
	case "parquet":
		n, err = exportParquet(ctx, out, src)
	case "csv":
		if _, err = io.WriteString(out, export.CSVHeader); err == nil {
			n, err = export.Lines(ctx, out, src, func() export.Encoder { return &export.CSV{} })
		}
	default:
		n, err = export.Lines(ctx, out, src, func() export.Encoder { return &export.JSON{} })
	}
	return n, errors.Join(err, out.Close())
}

// compressor puts a compression in front of w. Closing it does not close w.
func compressor(w io.Writer, how string) (io.WriteCloser, error) {
	switch how {
	case "gzip":
		return gzip.NewWriter(w), nil
	case "zstd":
		return zstd.NewWriter(w)
	}
	return uncompressed{w}, nil
}

type uncompressed struct{ io.Writer }

func (uncompressed) Close() error { return nil }

// watched is a selection whose reading is shown on a terminal.
type watched struct {
	cursor      *history.Cursor
	progress    *progressLine
	first, last mqttetl.Seq
	n           uint64
}

func (w *watched) Next(ctx context.Context) ([]mqttetl.Record, error) {
	recs, err := w.cursor.Next(ctx)
	w.n += uint64(len(recs))
	w.progress.show(func(elapsed time.Duration) string {
		at, _ := w.cursor.Bounds()
		return fmt.Sprintf("%d records  %s  %.0f/s", w.n, percent(w.first, at, w.last), rate(w.n, elapsed))
	})
	return recs, err
}

// percent is how much of first..last is before at.
func percent(first, at, last mqttetl.Seq) string {
	if last < first {
		return "100 %"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(min(at, last+1)-first)/float64(last+1-first))
}
