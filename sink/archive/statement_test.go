package archive

import "testing"

func TestStatements(t *testing.T) {
	for text, want := range map[string][2]string{
		"select 1": {"select", ""},
		" ;; -- a; b\n/* ; */ SELECT ';' as \";\" ; ; ":         {"select", ""},
		"select '--' ; /* x */ select 2":                        {"select", "select 2"},
		"select 'it''s; one'":                                   {"select", ""},
		"select [a;b] from `c;d`":                               {"select", ""},
		"select 1;--":                                           {"select", ""},
		"select 1 /* never closed ; select 2":                   {"select", ""},
		"vacuum into 'x'":                                       {"vacuum", ""},
		"(select 1)":                                            {"", ""},
		"select 'never closed; select 2":                        {"select", ""},
		"with a as (select 1) select * from a; attach 'b' as b": {"with", "attach 'b' as b"},
	} {
		word, rest := Statement(text)
		if got := [2]string{word, rest}; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
