package config

import (
	"errors"
	"testing"

	"github.com/mqttetl/mqttetl/deploy"
)

// FuzzParse holds Parse to its word for any bytes: a configuration that can be
// run, or problems with positions in the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte(deploy.Example))
	f.Add([]byte(source("password: ${A}", "qos: ${A:-2}", "tls: &t {ca: $${}", "version: 5")))
	f.Add([]byte("sources: [{url: *a, subscribe: &a [*a]}]\n"))
	f.Add([]byte("a: |\n  b\n? c\n---\n- !!str 1\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 4096 {
			return // the YAML parser, not ours, is what would be measured
		}
		c, err := Parse("f", src, environment("A", "1"))
		if err != nil {
			var ps Problems
			if !errors.As(err, &ps) || len(ps) == 0 {
				t.Fatalf("error without problems: %v", err)
			}
			for _, p := range ps {
				if p.Line < 1 || p.Col < 1 || p.Message == "" {
					t.Fatalf("problem without place or message: %+v", p)
				}
			}
			return
		}
		if len(c.Sources) == 0 || c.Log.Dir == "" {
			t.Fatalf("incomplete configuration: %+v", c)
		}
		for _, s := range c.Sources {
			if s.URL == "" || s.ClientID == "" || len(s.Subscribe) == 0 || s.Connections > 1 && s.Share == "" {
				t.Fatalf("impossible source: %+v", s)
			}
		}
	})
}
