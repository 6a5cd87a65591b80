package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/spool"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// ask runs the SQL statement.
func (f *queryFlags) ask(ctx context.Context, std streams) error {
	path := f.archive
	if path == "" {
		cfg, err := loadStores(f.config)
		if err != nil {
			return err
		}
		if cfg.Archive == nil {
			return config.Error{Err: errors.New("there is no archive in the configuration")}
		}
		path = cfg.Archive.Path
	}
	if err := checkArchive(path, f.archive == ""); err != nil {
		return err
	}
	if kind := f.kind(std.out); kind != "ndjson" {
		return f.askTable(ctx, std, path, kind)
	}
	kept := spool.New(std.out)
	w := bufio.NewWriterSize(kept, 64<<10)
	var line []byte
	err := archive.Query(ctx, path, f.sql, func(columns []string, values []any) error {
		line = append(appendRow(line[:0], columns, values), '\n')
		_, err := w.Write(line)
		return err
	})
	return spool.End(err, w, kept)
}

// askTable prints the rows when all are there.
func (f *queryFlags) askTable(ctx context.Context, std streams, path string, kind outputFormat) error {
	r := report{}
	rows := []json.RawMessage{}
	err := archive.Query(ctx, path, f.sql, func(columns []string, values []any) error {
		r.header = columns
		cells := make([]string, len(values))
		for i, v := range values {
			cells[i] = cell(v)
		}
		r.rows = append(r.rows, cells)
		rows = append(rows, appendRow(nil, columns, values))
		return nil
	})
	if err != nil {
		return err
	}
	r.document = rows
	return kind.write(std.out, r)
}

// cell is a value as text.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []byte:
		return fmt.Sprintf("x'%X'", v)
	case string:
		return v
	}
	return fmt.Sprint(v)
}

// appendRow appends a row as an object, its members in the order of the columns.
// A BLOB is {"base64": …}.
func appendRow(dst []byte, columns []string, values []any) []byte {
	sep := byte('{')
	for i, name := range columns {
		dst = mqttetl.AppendJSONString(append(dst, sep), []byte(name))
		dst = append(dst, ':')
		sep = ','
		switch v := values[i].(type) {
		case nil:
			dst = append(dst, "null"...)
		case int64:
			dst = strconv.AppendInt(dst, v, 10)
		case string:
			dst = mqttetl.AppendJSONString(dst, []byte(v))
		case []byte:
			dst = append(dst, `{"base64":"`...)
			dst = append(base64.StdEncoding.AppendEncode(dst, v), `"}`...)
		default:
			text, err := json.Marshal(v)
			if err != nil { // a REAL that JSON has no word for
				text = []byte("null")
			}
			dst = append(dst, text...)
		}
	}
	if len(columns) == 0 {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}
