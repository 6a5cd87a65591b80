package report

import (
	"bytes"
	"encoding/xml"
	"regexp"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/bench/compare"
)

func rendered(t *testing.T, r *compare.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := HTML(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var drawings = regexp.MustCompile(`(?s)<svg .*?</svg>`)

func TestHTMLNeedsNothingElse(t *testing.T) {
	text := rendered(t, sample(t))
	if found := regexp.MustCompile(`(?i)<script|\bsrc=|@import|url\(|href="[^d#]`).FindString(text); found != "" {
		t.Errorf("%q in the page", found)
	}
	for _, want := range []string{"default-src &#39;none&#39;", "prefers-color-scheme: dark", "@media print", "mqttetl bench --duration 500ms --rounds 3", "persistence true", "sync_interval: always", "mosquitto 2.0.11"} {
		if !strings.Contains(text, want) && !strings.Contains(text, strings.ReplaceAll(want, "&#39;", "'")) {
			t.Errorf("no %q in the page", want)
		}
	}
}

// Every drawing is well-formed, says what it shows, and has numbers only.
func TestHTMLDrawings(t *testing.T) {
	r := sample(t)
	all := drawings.FindAllString(rendered(t, r), -1)
	bars, curves := 0, 0
	for _, svg := range all {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); err != nil {
				if err.Error() != "EOF" {
					t.Errorf("%v in %.200s", err, svg)
				}
				break
			}
		}
		if !regexp.MustCompile(`role="img" viewBox="0 0 \d+ \d+" aria-labelledby="\S+ \S+"`).MatchString(svg) || !regexp.MustCompile(`<title id="\S+">[^<]+</title><desc id="\S+">[^<]+</desc>`).MatchString(svg) {
			t.Errorf("says nothing of itself: %.300s", svg)
		}
		if bad := regexp.MustCompile(`NaN|Inf|\b(?:x|y|x1|x2|y1|y2|width|height|points)="-|ZgotmplZ|\de\+`).FindString(svg); bad != "" {
			t.Errorf("%q in %.200s", bad, svg)
		}
		bars += strings.Count(svg, "<rect ")
		curves += strings.Count(svg, `<polyline class="s`)
	}
	throughput, latencies := 0, 0
	for _, c := range r.Cases {
		if c.Mode == compare.Throughput {
			throughput++
			if c.Subscribers > 0 {
				throughput++
			}
		} else {
			latencies += map[bool]int{true: 2, false: 1}[len(c.Summary.Confirm.Points) > 0]
		}
	}
	if bars != throughput || curves != latencies {
		t.Errorf("%d bars of %d, %d curves of %d", bars, throughput, curves, latencies)
	}
}

func TestHTMLOfABadDay(t *testing.T) {
	text := rendered(t, bad(t))
	if strings.Contains(text, "<script") || strings.Contains(text, "ZgotmplZ") {
		t.Error("what a server says becomes part of the page")
	}
	for _, want := range []string{`<p class="warning">interrupted`, `<td class="bad">1,234</td>`, `<text class="bad"`, "LOSS", "Where a server counts otherwise", "&lt;script&gt;alert(1)", "not measured"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
}

// Reports at the edge: nothing measured, one round, zeros, no open loop.
func TestHTMLAndTableOfLittle(t *testing.T) {
	closed := sample(t)
	for i := range closed.Cases {
		closed.Cases[i].Mode = compare.Throughput
	}
	zero := compare.Case{ID: "x", Name: "x", Mode: compare.Throughput, Subscribers: 1, Rounds: []compare.Round{{Samples: []compare.Sample{{}}}}}
	zero.Summary.PublishRate.N = 1
	for name, r := range map[string]*compare.Report{
		"nothing": {}, "a case without rounds": {Cases: []compare.Case{{ID: "x", Name: "x", Mode: compare.Latency}}},
		"zeros": {Cases: []compare.Case{zero}}, "no open loop": closed,
	} {
		text := rendered(t, r)
		if bad := regexp.MustCompile(`NaN|Inf\b|ZgotmplZ`).FindString(text); bad != "" {
			t.Errorf("%s: %q in the page", name, bad)
		}
		if name == "no open loop" && !strings.Contains(text, "closed loop at full load") && !strings.Contains(text, "closed loop") {
			t.Error("no curve of the closed loop")
		}
		if printed(t, r, false) == "" {
			t.Errorf("%s: no table", name)
		}
	}
}
