package news

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestTroubleIsSaidOnceAMinute: how many lines each course of events makes.
func TestTroubleIsSaidOnceAMinute(t *testing.T) {
	const retry = 200 * time.Millisecond
	for _, c := range []struct {
		name  string
		lasts time.Duration
		step  func(t *Trouble, i int, say func(Line))
		most  int // lines
	}{
		{"the same error at each retry", 5 * time.Minute, func(t *Trouble, i int, say func(Line)) {
			say(t.Failed(fmt.Sprintf("refused: port %d", i)))
		}, 5},
		{"full and room in turn", 11 * time.Second, func(t *Trouble, i int, say func(Line)) {
			say(t.Failed("full"))
			say(t.Over())
		}, 2},
		{"the same for five minutes", 5 * time.Minute, func(t *Trouble, i int, say func(Line)) {
			say(t.Failed("full"))
			say(t.Over())
		}, 10},
		{"two errors in turn", time.Minute - retry, func(t *Trouble, i int, say func(Line)) {
			say(t.Failed([]string{"a", "b"}[i%2]))
		}, 2},
		{"another error each time", 3 * time.Minute, func(t *Trouble, i int, say func(Line)) {
			say(t.Failed(fmt.Sprintf("error %c", 'A'+rune(i))))
		}, 3*maxKinds + maxKinds},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tr Trouble
				said, failed := 0, 0
				for i := range int(c.lasts / retry) {
					c.step(&tr, i, func(l Line) {
						if l.Say {
							said++
						}
					})
					failed++
					time.Sleep(retry)
				}
				if said < 1 || said > c.most {
					t.Errorf("%d failures make %d lines, want 1 to %d", failed, said, c.most)
				}
			})
		})
	}
}

// TestTroubleThatCameBackIsSaid: one that lasts does not stay unsaid, nor its end.
func TestTroubleThatCameBackIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tr Trouble
		if l := tr.Failed("full"); !l.Say || !l.News || l.Times != 1 {
			t.Errorf("at first %+v", l)
		}
		if l := tr.Over(); !l.Say {
			t.Errorf("its end %+v", l)
		}
		if l := tr.Over(); l.Say {
			t.Errorf("over a second time %+v", l)
		}
		time.Sleep(time.Second)
		for range 10 {
			if l := tr.Failed("full"); l.Say {
				t.Errorf("again within %v: %+v", l.For, l)
			}
			time.Sleep(time.Second)
		}
		if l := tr.Failed("full"); !l.Say || l.Times != 11 || l.For != lasting {
			t.Errorf("after %v %+v, want it said, 11 times", lasting, l)
		}
		if l := tr.Over(); !l.Say {
			t.Errorf("its end %+v", l)
		}
	})
}

func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Seldom
		var got []int
		for range 150 {
			if n := s.Count(); n > 0 {
				got = append(got, n)
			}
			time.Sleep(time.Second)
		}
		if fmt.Sprint(got) != "[1 60 60]" {
			t.Errorf("counts %v, want [1 60 60]", got)
		}
	})
}
