package rerun

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// brief ends when it has been looked at so often.
type brief struct {
	context.Context
	looks int
}

func (c *brief) Err() error {
	if c.looks--; c.looks < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// Records that were read before the time was up are not passed over.
func TestPublishInBriefTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := archive.Open(path, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	again := again{}
	var recs []mqttetl.Record
	for seq := range mqttetl.Seq(5) {
		recs = append(recs, mqttetl.Record{Seq: seq + 1, Source: "s", Message: mqttetl.Message{Topic: []byte("t")}})
		again.list = append(again.list, mqttetl.DeadLetter{Seq: seq + 1})
	}
	if err := errors.Join(db.Append(recs), db.Commit(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if again.reader, err = archive.OpenReader(path); err != nil {
		t.Fatal(err)
	}
	defer again.reader.Close()
	var got []mqttetl.Seq
	for range 2 * len(recs) {
		recs, err := again.records(&brief{t.Context(), 2})
		if err != nil {
			t.Fatal(err)
		}
		for i := range recs {
			got = append(got, recs[i].Seq)
		}
	}
	if !slices.Equal(got, []mqttetl.Seq{1, 2, 3, 4, 5}) {
		t.Errorf("records %v", got)
	}
}
