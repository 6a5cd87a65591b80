package importer

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimesOfAllForms(t *testing.T) {
	for text, want := range map[string]string{ // "": refused; a ? after it: names no zone
		"2026-01-05T19:52:56Z":             "2026-01-05T19:52:56Z",
		"2026-01-05T19:52:56.1+01:00":      "2026-01-05T18:52:56.1Z",
		"2026-01-05T19:52:56.123456Z+0100": "2026-01-05T18:52:56.123456Z",
		"2026-01-05T19:52:56-0330":         "2026-01-05T23:22:56Z",
		"2026-01-05 19:52:56.123+00":       "2026-01-05T19:52:56.123Z",
		"2026-01-05 19:52:56 +0100":        "2026-01-05T18:52:56Z",
		"2026-01-05 19:52:56 UTC":          "2026-01-05T19:52:56Z",
		"2026-01-05 19:52:56.5 +0000 UTC":  "2026-01-05T19:52:56.5Z",
		"2026-01-05 19:52:56":              "2026-01-05T19:52:56Z?",
		"2026/01/05 19:52:56":              "2026-01-05T19:52:56Z?",
		"2026-01-05 19:52:56,123":          "2026-01-05T19:52:56.123Z?",
		"2026-01-05 19:52:56:123":          "2026-01-05T19:52:56.123Z?",
		"2026-01-05T19:52:56.1234567899":   "2026-01-05T19:52:56.123456789Z?",
		"2026-01-05 19:52":                 "2026-01-05T19:52:00Z?",
		"2026-01-05T19:52Z":                "2026-01-05T19:52:00Z",
		"20260105195256":                   "2026-01-05T19:52:56Z?",
		"20260105T195256":                  "2026-01-05T19:52:56Z?",
		"2024-02-29T00:00:00Z":             "2024-02-29T00:00:00Z",
		"Mon, 05 Jan 2026 19:52:56 GMT":    "2026-01-05T19:52:56Z",
		"1767642776":                       "2026-01-05T19:52:56Z",
		"1767642776.25":                    "2026-01-05T19:52:56.25Z",
		"1767642776,25":                    "2026-01-05T19:52:56.25Z",
		"1767642776.1234567899":            "2026-01-05T19:52:56.123456789Z",
		"1767642776253":                    "2026-01-05T19:52:56.253Z",
		"1767642776253.5":                  "2026-01-05T19:52:56.2535Z",
		"1767642776253411":                 "2026-01-05T19:52:56.253411Z",
		"1767642776253411123":              "2026-01-05T19:52:56.253411123Z",
		"1.767642776253e+12":               "2026-01-05T19:52:56.253Z",
		"1.767642776253411e+18":            "2026-01-05T19:52:56.253411Z",
		"2025-02-29T00:00:00Z":             "",
		"2026-01-05":                       "",
		"2026-01-05T24:00:00Z":             "",
		"2026-01-05T19:52:56 CET":          "",
		"Mon, 05 Jan 2026 19:52:56 CET":    "",
		"2026-01-05T19:52:56+1":            "",
		"2026-01-05T19:52:56.Z":            "",
		"05.01.2026 19:52:56":              "",
		"01/05/2026":                       "",
		"0.5":                              "",
		"12":                               "",
		"20260105":                         "",
		"1e999999999":                      "",
		"9223372036854775807000":           "",
		"2262-01-05T19:52:56Z":             "",
		strings.Repeat("1", 100) + "e-20":  "",
	} {
		ns, wall, err := parseTime(text)
		got := ""
		if err == nil {
			got = time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
			if wall {
				got += "?"
			}
		}
		if got != want {
			t.Errorf("%q: %s, %v, want %s", text, got, err, want)
		}
	}
}

// RFC 3339 in any form is what the standard library reads.
func TestTimesAsTheLibraryReadsThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, "zone"))
		want := time.Unix(rapid.Int64Range(-9e9, 9e9).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanos")).In(zone)
		text := want.Format(rapid.SampledFrom([]string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999-0700", "2006-01-02T15:04:05,999999999 -07:00"}).Draw(t, "layout"))
		if ns, wall, err := parseTime(text); err != nil || wall || ns != want.UnixNano() {
			t.Fatalf("%s: %d, %v, want %d", text, ns, err, want.UnixNano())
		}
	})
}

func TestTimeFormat(t *testing.T) {
	for _, c := range []struct{ format, text, want string }{
		{"%d.%m.%Y %H:%M:%S", "05.01.2026 19:52:56", "2026-01-05T19:52:56Z?"},
		{"%d.%m.%Y %H:%M:%S,%f", "05.01.2026 19:52:56,123456", "2026-01-05T19:52:56.123456Z?"},
		{"%m/%d/%y %I:%M:%S %p %z", "01/05/26 07:52:56 pm +01:00", "2026-01-05T18:52:56Z"},
		{"%e %b %Y %k:%M:%S.%L", " 5 Jan 2026  7:52:56.5", "2026-01-05T07:52:56.5Z?"},
		{"%c", "Mon Jan  5 19:52:56 2026", "2026-01-05T19:52:56Z?"},
		{"%FT%TZ%z", "2026-01-05T19:52:56Z+0000", "2026-01-05T19:52:56Z"},
		{"%Y-%j %R %Z", "2026-005 19:52 UTC", "2026-01-05T19:52:00Z"},
		{"%-d.%-m.%Y %-H:%M", "5.1.2026 7:52", "2026-01-05T07:52:00Z?"},
		{"%F %T %Z", "2026-07-05 19:52:56 CEST", ""},
		{"%s", "12", "1970-01-01T00:00:12Z"},
		{"%s.%N", "-1.25", "1969-12-31T23:59:59.25Z"},
		{"unix", "12.5", "1970-01-01T00:00:12.5Z"},
		{"unix_ms", "12", "1970-01-01T00:00:00.012Z"},
		{"unix_us", "1767642776253411", "2026-01-05T19:52:56.253411Z"},
		{"unix_ns", "1767642776253411000", "2026-01-05T19:52:56.253411Z"},
		{"%d.%m.%Y", "31.02.2026", ""},
		{"%d.%m.%Y", "05.01.2026 x", ""},
		{"%d.%m.%Y", "5-1-2026", ""},
		{"%Y-%m-%d %I %p", "2026-01-05 13 PM", ""},
		{"unix_ms", "2026", "1970-01-01T00:00:02.026Z"},
		{"unix_ms", "x", ""},
	} {
		f, err := parseTimeFormat(c.format, nil)
		if err != nil {
			t.Errorf("%s: %v", c.format, err)
			continue
		}
		ns, wall, err := f(c.text)
		got := ""
		if err == nil {
			got = time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
			if wall {
				got += "?"
			}
		}
		if got != c.want {
			t.Errorf("%s of %q: %s, %v, want %s", c.format, c.text, got, err, c.want)
		}
	}
	for _, bad := range []string{"%H:%M", "%Y-%m-%d %I:%M", "%", "%Q", "%Y", "rfc", "2006-01-02"} {
		if err := CheckTimeFormat(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// A zone's name is one of the place that --timezone names, and tells the hours
// apart that the clocks showed twice.
func TestNamesOfZones(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{"2026-10-25 02:30:00 CET", "2026-10-25T01:30:00Z"},
		{"2026-10-25 02:30:00 CEST", "2026-10-25T00:30:00Z"},
		{"2026-07-05 02:30:00 CET", "2026-07-05T01:30:00Z"},
		{"2026-07-05 02:30:00 GMT", "2026-07-05T02:30:00Z"},
		{"2026-07-05 02:30:00 EST", ""},
	} {
		for _, form := range []Config{{Header: "time,topic,payload", TimeFormat: "%Y-%m-%d %H:%M:%S %Z"}, {Format: "@Y-@m-@d @H:@M:@S @Z,%t,%p"}} {
			form.Zone = berlin
			recs, s, err := dry(form, []byte(c.text+",t,1\n"))
			got := ""
			if len(recs) == 1 {
				got = recs[0].When().UTC().Format(time.RFC3339)
			}
			if err != nil || got != c.want || s.Zoneless != 0 || s.Rejected != int64(1-len(recs)) {
				t.Errorf("%s by %+v: %s, %+v, %v, want %s", c.text, form, got, s, err, c.want)
			}
		}
	}
}

// Of a time that the clocks showed twice the order of the lines decides.
func TestLocalTimesAtTheEndOfSummerTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ lines, want string }{ // of 25 October 2026, as hours and minutes of UTC
		{"01:30 02:10 02:50 02:10 02:50 03:10", "23:30 00:10 00:50 01:10 01:50 02:10"},
		{"02:59:59 02:00:00 02:59:59 03:00:00", "00:59 01:00 01:59 02:00"},
		{"02:30:01 02:30:00 02:30:01 02:29:50 02:40:00", "00:30 00:30 00:30 00:29 00:40"},
		{"02:30 02:30 02:10 02:20", "00:30 00:30 01:10 01:20"},
		{"03:10 02:50", "02:10 01:50"},
		{"02:30", "00:30"},
		{"03:10 02:50 02:05 02:50 02:10 01:59", "02:10 01:50 01:05 00:50 00:10 23:59"},
		{"04:10 03:10 02:10 02:10 01:10", "03:10 02:10 01:10 01:10 23:10"},
	} {
		text := "time,topic,payload\n"
		for _, line := range strings.Fields(c.lines) {
			text += "2026-10-25 " + line + ",t,\n"
		}
		recs, s, err := dry(Config{Zone: berlin}, []byte(text))
		var got []string
		for _, r := range recs {
			got = append(got, r.When().UTC().Format("15:04"))
		}
		twice := int64(0)
		for _, line := range strings.Fields(c.lines) {
			if strings.HasPrefix(line, "02") {
				twice++
			}
		}
		if err != nil || strings.Join(got, " ") != c.want || s.Twice != twice || s.Zoneless != int64(len(recs)) {
			t.Errorf("%s: %v, %+v, %v, want %s", c.lines, got, s, err, c.want)
		}
	}
}

func TestLocalTimesThatTheClocksSkipped(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	text := "time,topic,payload\n2026-03-29 01:59:59,a,\n2026-03-29 02:30:00,b,\n2026-03-29 03:00:00,c,\n2026-03-29T02:30:00Z,d,\n"
	recs, _, why, err := said(Config{Zone: berlin}, text)
	got := strings.Join(recs, "; ")
	if want := "2026-03-29T00:59:59 a  0; 2026-03-29T01:00:00 c  0; 2026-03-29T02:30:00 d  0"; err != nil || got != want || len(why) != 1 || !strings.Contains(why[0], "3: time 2026-03-29 02:30:00: the clocks of Europe/Berlin were put forward") {
		t.Errorf("%s, %q, %v, want %s", got, why, err, want)
	}
}

// Everywhere else a time is what time.Date makes of it.
func TestLocalTimes(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca", "America/St_Johns", "UTC", "Etc/GMT+5"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		c := clock{zone: zone}
		for day := range 4000 {
			want := time.Date(2015, 1, 1, 12, 0, day%60, 0, zone).AddDate(0, 0, day)
			wall := time.Date(want.Year(), want.Month(), want.Day(), want.Hour(), want.Minute(), want.Second(), 0, time.UTC)
			if ns, twice, err := c.instant(wall.UnixNano()); err != nil || twice || ns != want.UnixNano() {
				t.Fatalf("%s: %v is %v, %v, %v", name, wall, time.Unix(0, ns).In(zone), twice, err)
			}
		}
	}
}

// What has no time gets the present one, and is counted, with what may be its time.
func TestLinesWithoutATimeAreCounted(t *testing.T) {
	for text, want := range map[string]string{
		`{"topic":"t","payload":"1767642776","n":5,"received_at":"2026-01-05T19:52:56Z"}` + "\n" + `{"topic":"t","payload":"1","time":1767642776}`: "received_at",
		"topic,payload,ts\nt,1,1767642776\n":                   "ts",
		`{"topic":"t","payload":"1","time":null}`:              "",
		`{"topic":"t","payload":"1","time":""}`:                "",
		"time,topic,payload\n,t,1\n2026-01-05T19:52:56Z,t,1\n": "",
	} {
		recs, s, err := dry(Config{}, []byte(text))
		if err != nil || s.Untimed != 1 || s.TimeName != want || len(recs) == 0 || time.Since(recs[0].When()) > time.Minute {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
	}
}
