package transform

import "github.com/mqttetl/mqttetl"

// Kind says what a Note is of.
type Kind int

// The kinds of notes.
const (
	Mended    Kind = iota // something in the payload was wrong, the rest is used
	UnsetTime             // the time was that of a clock which is not set
	Skipped               // readings: a value that they do not take
	kinds
)

// Note is what a route has read although something was wrong with it.
type Note struct {
	Route string
	Seq   mqttetl.Seq
	Kind  Kind
	Text  string
}

// note keeps the first of each kind until the record has rows.
func (j *job) note(kind Kind, text string) {
	if !j.noted {
		j.noted, j.a.notes = true, [kinds]string{}
	}
	if j.a.notes[kind] == "" {
		j.a.notes[kind] = text
	}
}

// mended is told by the decoder.
func (j *job) mended(what string) {
	j.broken = what
	j.note(Mended, what)
}

// takeNotes counts the notes of a record that has rows.
func (j *job) takeNotes() {
	if j.w.rows.Len() == j.row0 {
		return
	}
	j.a.marred++
	if j.a.notes[Mended] != "" {
		j.w.stats.Mended++
	}
	if j.a.notes[UnsetTime] != "" {
		j.w.stats.Unset++
	}
	j.a.say(j.w.Name, &j.w.noted, j.rec.Seq, &j.a.notes)
}

// say adds the notes of kinds that were not said before.
func (a *Applier) say(route string, noted *[kinds]bool, seq mqttetl.Seq, notes *[kinds]string) {
	for kind, text := range notes {
		if text != "" && !noted[kind] {
			noted[kind] = true
			a.Notes = append(a.Notes, Note{route, seq, Kind(kind), text})
		}
	}
}
