package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

func (d *decoder) tests(n ast.Node) (list []Test) {
	d.list(n, "tests", func(n ast.Node) { list = append(list, d.test(n)) })
	return list
}

func (d *decoder) test(n ast.Node) Test {
	var t Test
	if token := firstToken(n); token != nil && token.Position != nil {
		t.Line = token.Position.Line
	}
	payload := func(check func(string) error) func(ast.Node) {
		return func(n ast.Node) {
			var s string
			d.text(&s, "payload", func(s string) error { return check(s) })(n)
		}
	}
	seen := d.mapping(n, "the test", []field{
		{"topic", d.text(&t.Topic, "topic", checkTopic)},
		{"payload", payload(func(s string) error { t.Payload = []byte(s); return nil })},
		{"payload_base64", payload(func(s string) (err error) {
			t.Payload, err = base64.StdEncoding.DecodeString(s)
			return err
		})},
		{"payload_file", payload(func(s string) (err error) {
			t.Payload, err = os.ReadFile(s)
			return err
		})},
		{"received", d.text(new(string), "received", func(s string) (err error) {
			t.Received, err = time.Parse(time.RFC3339Nano, s)
			if err != nil {
				return fmt.Errorf("%q is no time such as 2026-01-05T20:52:56Z", s)
			}
			return nil
		})},
		{"expect", func(n ast.Node) { t.Expect = d.expect(n) }},
		{"error", d.text(&t.Error, "error", nil)},
	})
	d.require(n, seen, "the test", "topic")
	forms := 0
	for _, key := range []string{"payload", "payload_base64", "payload_file"} {
		if seen[key] != nil {
			forms++
		}
	}
	if forms != 1 && isMapping(d.resolve(n)) {
		d.report(n, "the test needs one of payload, payload_base64, payload_file")
	}
	if seen["expect"] == nil && seen["error"] == nil && isMapping(d.resolve(n)) {
		d.report(n, "the test needs expect, error, or both")
	}
	return t
}

// checkTopic holds the topic of a message to MQTT 5 §4.7.
func checkTopic(s string) error {
	switch {
	case s == "":
		return errors.New("must not be empty")
	case strings.ContainsAny(s, "+#"):
		return fmt.Errorf("%q: a message has a topic without + and #", s)
	}
	return checkUTF8(s)
}

// expect reads rows by table.
func (d *decoder) expect(n ast.Node) map[string][]map[string]any {
	tables := map[string][]map[string]any{}
	for _, pair := range d.pairs(n, "expect") {
		table := pair.Key.GetToken().Value
		rows := []map[string]any{}
		if seq, ok := d.resolve(pair.Value).(*ast.SequenceNode); !ok || len(seq.Values) > 0 {
			d.list(pair.Value, "the rows of "+table, func(n ast.Node) { rows = append(rows, d.row(n)) })
		}
		tables[table] = rows
	}
	return tables
}

func (d *decoder) row(n ast.Node) map[string]any {
	row := map[string]any{}
	for _, pair := range d.pairs(n, "the row") {
		row[pair.Key.GetToken().Value] = d.value(pair.Value)
	}
	return row
}

// value is a value of a column.
func (d *decoder) value(n ast.Node) any {
	switch v := d.resolve(n).(type) {
	case *ast.NullNode, nil:
		return nil
	case *ast.BoolNode:
		return v.Value
	case *ast.FloatNode:
		return v.Value
	case *ast.IntegerNode:
		switch i := v.Value.(type) {
		case int64:
			return i
		case uint64:
			if int64(i) >= 0 {
				return int64(i)
			}
		}
		d.report(v, "%s is beyond 64 bits", v.GetToken().Value)
		return nil
	}
	s, _ := d.scalar(n, "a value")
	return s.text
}
