package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// Every line is told of that is not as the file had it, and no flag is passed over.
func TestImportAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	path := filepath.Join(s.dir, "f")
	const noTime = `{"topic":"a","payload":"1","received_at":"2026-01-05T19:52:56Z"}` + "\n"
	for _, c := range []struct {
		text, args string
		code       int
		want       string
	}{
		{noTime, "", 0, "imported 1 line, rejected 0|1 line without a time got the present one; --columns time=received_at if that is the time"},
		{noTime + noTime, "--dry-run", 0, "would import 2 lines, would reject 0|2 lines without a time got the present one"},
		{noTime, "--columns time=received_at", 0, "imported 1 line, rejected 0"},
		{noTime, "--columns time=received_at,qos=q,retain=packet.r", 0, "imported 1 line, rejected 0|no line has what --columns names: qos=q, retain=packet.r"},
		{noTime, "--columns time=received_at --format ndjson", 0, "imported 1 line, rejected 0"},
		{`{"topic":"a","value":"1"}`, "", exitFailed, "f: 1 line rejected, see |; line 1: no payload: --columns payload=… names its member of value|imported 0 lines, rejected 1|1 line could not be read"},
		{"time,topic,payload\n2026-10-25 02:30:00,a,1\n", "", 0, "1 line with a time that names no zone: taken as UTC, --timezone says another"},
		{"time,topic,payload\n2026-10-25 02:30:00,a,1\n", "--timezone Europe/Berlin", 0, "1 line at a time that the clocks showed twice: the order of the lines decided"},
		{"time,topic,payload\n2026-03-29 02:30:00,a,1\n", "--timezone Europe/Berlin --dry-run", exitFailed, "f:2: time 2026-03-29 02:30:00: the clocks of Europe/Berlin were put forward"},
		{"x", "--columns payload=x --format %t|%p", exitUsage, "--columns is for JSON and CSV"},
		{"x", "--header topic,payload --format ndjson", exitUsage, "--header and --separator are for CSV"},
		{noTime, "--separator ;", exitUsage, "--separator is for CSV, and this is JSON"},
		{"x", "--columns payload=a,time=a", exitUsage, "a has two meanings"},
		{"x", "--columns payload=a,payload=b", exitUsage, "payload has two names"},
		{"x", "--columns payload=:base64", exitUsage, "no name before :base64"},
		{"x", "--topic a/#", exitUsage, "--topic: topic"},
		{"x", "--topic a --format %t|%p", exitUsage, "so that --topic is for no line"},
		{"x", "--format %p", exitUsage, "--topic gives one"},
		{"x", "--format owntracks", exitUsage, "--topic owntracks/jane/phone"},
		{"x", "--format %t|%f|%p", exitUsage, "%f cannot be read back"},
		{"x", "--format @H:@M|%t|%p", exitUsage, "a time needs a year, a month and a day"},
		{"x", "--time-format %H:%M", exitUsage, "--time-format: "},
		{"x", "--time-format unix --format %t|%p", exitUsage, "has no time, %I, that --time-format could be for"},
	} {
		writeFile(t, path, c.text)
		r := call(t, append([]string{"import", "-c", s.config, path}, strings.Fields(c.args)...)...)
		for want := range strings.SplitSeq(c.want, "|") {
			if r.code != c.code || !strings.Contains(r.err, want) {
				t.Errorf("%s of %q: %+v, want %d %s", c.args, c.text, r, c.code, want)
			}
		}
		if strings.HasSuffix(c.want, "rejected 0") && strings.Contains(r.err, " time") {
			t.Errorf("%s of %q: %s", c.args, c.text, r.err)
		}
	}
}
