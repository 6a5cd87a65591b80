package importer

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"

	"github.com/mqttetl/mqttetl"
)

// reader is what the parsers need of a Config.
func (c *Config) reader() (r reader, err error) {
	r.topic = []byte(c.Topic)
	if len(r.topic) > 0 {
		if err = CheckTopic(c.Topic); err != nil {
			return r, err
		}
	}
	if r.columns, err = parseColumns(c.Columns); err != nil {
		return r, err
	}
	r.zone = c.Zone
	r.times, err = parseTimeFormat(c.TimeFormat, c.Zone)
	return r, err
}

// CheckTopic returns what is wrong with the Topic of a Config.
func CheckTopic(topic string) error {
	if err := checkTopic([]byte(topic), false); err != nil {
		return OptionError{err}
	}
	return nil
}

// CheckFormat returns what is wrong with the Format of a Config. Topic and
// TimeFormat say what it need not have.
func CheckFormat(format, topic, timeFormat string) error {
	switch format {
	case "", "ndjson", "%j", "%J", "csv":
		return nil
	case ownTracks:
		if topic == "" {
			return badOption("format owntracks has no topics: --topic owntracks/jane/phone gives that of the device")
		}
		return nil
	}
	r, err := (&Config{Topic: topic, TimeFormat: timeFormat}).reader()
	if err == nil {
		_, err = r.newTextFormat(format)
	}
	return err
}

// ownTracksLine is how a file of OwnTracks Recorder begins.
var ownTracksLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\t\S+ *\t`)

func firstLine(head []byte) []byte {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return line
}

// kind is the format, or what the file seems to be by its beginning.
func (m *Importer) kind(text []byte) (string, error) {
	c, first := &m.cfg, withoutReturn(firstLine(text))
	switch {
	case c.Format == "%j" || c.Format == "%J":
		return "ndjson", nil
	case c.Format != "":
		return c.Format, nil
	case c.Header != "":
		return "csv", nil
	case len(bytes.TrimSpace(text)) == 0:
		return "ndjson", nil
	case looksLikeJSON(text):
		if c.Separator != 0 {
			return "", badOption("--separator is for CSV, and this is JSON: %.60q", first)
		}
		return "ndjson", nil
	case ownTracksLine.Match(first):
		return ownTracks, CheckFormat(ownTracks, c.Topic, "")
	case c.Separator != 0 || m.separatorOf(first) != 0 || len(m.columns) > 0:
		return "csv", nil
	}
	if what := otherKind(text); what != "" {
		return "", mqttetl.WithHint(fmt.Errorf("it is %s, which is not read here", what), "export it as NDJSON or CSV, with the topic in each line or --topic")
	}
	return "", mqttetl.WithHint(fmt.Errorf("neither JSON nor CSV with a column topic: %.60q", first),
		"--format '%I %t %p' says what the lines are; --header time,topic,payload names the columns of CSV without a header")
}

// otherKind names what a file is by its beginning, if people have such recordings
// and they are no lines of text.
func otherKind(text []byte) string {
	for _, k := range [][2]string{{"PK\x03\x04", "a zip archive or a spreadsheet"}, {"\xd0\xcf\x11\xe0", "a spreadsheet"}, {"SQLite format 3\x00", "an SQLite database"},
		{"PAR1", "Parquet"}, {"\xd4\xc3\xb2\xa1", "a capture of packets"}, {"\n\r\r\n", "a capture of packets"}, {"\x1f\x8b", "compressed twice"}} {
		if bytes.HasPrefix(text, []byte(k[0])) {
			return k[1]
		}
	}
	if bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("<")) {
		return "XML or HTML"
	}
	if n := bytes.IndexByte(text, 0); n > 0 && len(text) > 262 && string(text[257:262]) == "ustar" {
		return "a tar archive"
	}
	return ""
}

// choose finds the parser for the format, or for what the file begins with.
func (m *Importer) choose(head []byte) error {
	text := bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	kind, err := m.kind(text)
	if err != nil {
		return err
	}
	switch kind {
	case "ndjson":
		if looksLikeJSON(text) && spread(text) {
			m.lines.r = bufio.NewReaderSize(&unwrapper{r: m.lines.r}, 1<<20)
		}
		m.parse = m.parseJSON
	case "csv":
		if m.table, err = m.openTable(text); err == nil {
			m.parse = m.table.parse
		}
	default:
		if m.text, err = m.newTextFormat(kind); err == nil {
			m.parse = m.text.parse
		}
	}
	return err
}

// openTable reads the header of a CSV, or takes the one that was given.
func (m *Importer) openTable(text []byte) (*table, error) {
	if len(text) == 0 { // a header that is still to be written
		return &table{reader: &m.reader, sep: ','}, nil
	}
	first := withoutReturn(firstLine(text))
	if m.cfg.Header != "" {
		names, err := headerNames(m.cfg.Header)
		if err != nil {
			return nil, err
		}
		return m.tableOf(names, []byte(m.cfg.Header), cmp.Or(m.cfg.Separator, ','))
	}
	sep := cmp.Or(m.cfg.Separator, m.separatorOf(first), ',')
	header, err := m.lines.next()
	if err != nil {
		return nil, err
	}
	return m.newTable(withoutReturn(header), sep)
}

// untimed counts a message without a time, and looks in the first for what may
// be its time.
func (m *Importer) untimed(line []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stats.Untimed++; m.stats.Untimed > 1 {
		return
	}
	switch {
	case m.table != nil:
		m.stats.TimeName = m.table.timeName()
	case m.text == nil:
		m.stats.TimeName = timeMember(line)
	}
}

// counted counts what was imported.
func (m *Importer) counted(e *entry, twice bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Imported++
	if e.wall {
		m.stats.Zoneless++
	}
	if twice {
		m.stats.Twice++
	}
}

// timeMember returns the name of a member that is a time, "" if there is none.
func timeMember(line []byte) (found string) {
	s := scanner{p: line}
	_ = s.object(func(name []byte) error { // was read before
		v, err := s.scalar()
		if err != nil || found != "" || slices.Contains(fields, string(name)) {
			return err
		}
		if _, _, err = parseTime(string(v)); err == nil {
			found = string(name)
		}
		return nil
	})
	return found
}

// timeName is timeMember of the row that was read last.
func (t *table) timeName() string {
	for i, v := range t.row {
		if _, _, err := parseTime(string(v)); err == nil && t.columns[i].field == "" {
			return string(t.names[i])
		}
	}
	return ""
}
