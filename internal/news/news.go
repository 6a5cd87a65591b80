// Package news decides what is worth a line of the log. Its invariant: whatever
// a stranger does, the same thing is not said more often than once in Every, and
// what was not said is counted in the line that follows.
package news

import (
	"strings"
	"sync"
	"time"
)

const (
	// Every is how often the same is said again while it goes on.
	Every = time.Minute
	// lasting is how long a trouble may go unsaid that came back within Every.
	lasting = 10 * time.Second
	// maxKinds bounds the kinds of one trouble that count as news: errors that differ
	// each time are one.
	maxKinds = 8
)

// Trouble is something that works or does not. It is said when it begins, when it
// is another than before, once in Every while it lasts, and when it is over. One
// that comes and goes is said once in Every, with how often that was. The zero value is ready.
type Trouble struct {
	mu    sync.Mutex
	since time.Time            // of the trouble that goes on; zero: there is none
	said  bool                 // it was said
	last  time.Time            // when trouble was last said
	kinds map[string]time.Time // when each was last said
	times int                  // of Failed since the last line
}

// Line is what is to be said. Say is false: nothing.
type Line struct {
	Say   bool
	News  bool          // its kind was not said within Every
	Since time.Time     // when the trouble began
	For   time.Duration // how long it has gone on
	Times int           // how often it was noted since the last line, this time included
}

// Failed notes that it does not work. Digits in text do not make it another trouble.
func (t *Trouble) Failed(text string) Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.since.IsZero() {
		t.since = now
	}
	t.times++
	kind := withoutDigits(text)
	before, known := t.kinds[kind]
	fresh := !known || now.Sub(before) >= Every
	l := Line{News: !known, Since: t.since, For: now.Sub(t.since), Times: t.times}
	l.Say = fresh && (len(t.kinds) < maxKinds || now.Sub(t.last) >= Every) || !t.said && now.Sub(t.since) >= lasting
	if !l.Say {
		return l
	}
	if t.kinds == nil || len(t.kinds) >= maxKinds {
		t.kinds = map[string]time.Time{}
	}
	t.kinds[kind], t.last, t.said, t.times = now, now, true, 0
	return l
}

// Over notes that it works. It is to be said where the trouble was.
func (t *Trouble) Over() Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return Line{}
	}
	l := Line{Say: t.said, Since: t.since, For: time.Since(t.since), Times: t.times}
	t.since, t.said = time.Time{}, false
	return l
}

// Since is when the trouble that goes on began; zero: there is none.
func (t *Trouble) Since() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since
}

// withoutDigits makes errors equal that differ in a sequence number, in a port
// that the system chose or in a duration.
func withoutDigits(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}

// Seldom counts what is worth a log line once in Every at most.
type Seldom struct {
	mu sync.Mutex
	n  int
	at time.Time // of the last line
}

// Count counts one more and returns how many there were since the last line if
// it is time for the next, otherwise 0.
func (s *Seldom) Count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if !s.at.IsZero() && time.Since(s.at) < Every {
		return 0
	}
	n, s.n, s.at = s.n, 0, time.Now()
	return n
}

// Kinds is a Seldom for each of the texts that the program has for what may come often.
type Kinds struct {
	mu sync.Mutex
	of map[string]*Seldom
}

// Count counts one more of text, as Seldom does.
func (k *Kinds) Count(text string) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil {
		k.of = map[string]*Seldom{}
	}
	s := k.of[text]
	if s == nil {
		s = new(Seldom)
		k.of[text] = s
	}
	return s.Count()
}
