package importer

import (
	"errors"
	"io"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// heap is the memory that objects take, garbage included, in bytes.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// peaking notes the greatest heap there was at a Read.
type peaking struct {
	io.Reader
	peak uint64
}

func (p *peaking) Read(b []byte) (int, error) {
	p.peak = max(p.peak, heap())
	return p.Reader.Read(b)
}

// Memory for a long line is used again for the next, also behind one that is
// too long; growing to it takes no more than the line and half of it at a time.
func TestMemoryOfLongLines(t *testing.T) {
	const long = maxLine - 100
	end := func() io.Reader { return strings.NewReader("\n") }
	p := &peaking{Reader: io.MultiReader(&endless{long}, end(), &endless{long}, end(), &endless{2*maxLine + 100}, end(), &endless{long}, end())}
	l, _, err := newLines(p)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	base := heap()
	for i := range 4 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		line, err := l.next()
		runtime.ReadMemStats(&after)
		if i != 2 && (err != nil || len(line) != long) || i == 2 && !errors.Is(err, errLong) {
			t.Fatalf("line %d: %d bytes, %v", i+1, len(line), err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; i == 0 && got > 2*maxLine+1<<20 || i > 0 && got > 1<<20 {
			t.Errorf("line %d took %d MiB", i+1, got>>20)
		}
	}
	if peak := int64(p.peak - base); peak > 2*maxLine {
		t.Errorf("up to %d MiB at a time", peak>>20)
	} else {
		t.Logf("up to %d MiB at a time", peak>>20)
	}
}

// So is that for a row of CSV over several lines.
func TestMemoryOfLongRows(t *testing.T) {
	row := "\"a\n" + strings.Repeat("x", 8<<20) + "\"\n"
	m, err := New(Config{Format: "csv", Topic: "t", In: strings.NewReader("payload\n" + strings.Repeat(row, 3)), Dry: func(*mqttetl.Record) error { return nil }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		line, err := m.line()
		runtime.ReadMemStats(&after)
		if err != nil || string(line)+"\n" != row {
			t.Fatalf("row %d: %d bytes, %v", i+1, len(line), err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; i > 0 && got > 1<<20 {
			t.Errorf("row %d took %d MiB", i+1, got>>20)
		}
	}
}
