package session

import "testing"

func TestWindow(t *testing.T) {
	for name, tt := range map[string]struct {
		take, give                 []int // bytes of batches
		room, plenty, few, isEmpty bool
	}{
		"nothing":            {nil, nil, true, true, true, true},
		"one":                {[]int{1}, nil, true, true, true, false},
		"one, done":          {[]int{1}, []int{1}, true, true, true, true},
		"half the bytes":     {[]int{windowBytes / 2}, nil, true, false, true, false},
		"all bytes":          {[]int{windowBytes}, nil, false, false, true, false},
		"more than all":      {[]int{3 * windowBytes}, nil, false, false, true, false},
		"more, done":         {[]int{3 * windowBytes}, []int{3 * windowBytes}, true, true, true, true},
		"few batches":        {make([]int, fewBatches-1), nil, true, true, true, false},
		"not few":            {make([]int, fewBatches), nil, true, true, false, false},
		"half the batches":   {make([]int, windowBatches/2), nil, true, false, false, false},
		"all batches":        {make([]int, windowBatches), nil, false, false, false, false},
		"all but one":        {make([]int, windowBatches), make([]int, 1), true, false, false, false},
		"one large is left":  {[]int{1, windowBytes}, []int{1}, false, false, true, false},
		"the large is ready": {[]int{1, windowBytes}, []int{windowBytes}, true, true, true, false},
	} {
		var w window
		for _, n := range tt.take {
			w.take(n)
		}
		for _, n := range tt.give {
			w.give(n)
		}
		got := [4]bool{w.hasRoom(), w.hasPlenty(), w.hasFew(), w.empty()}
		if want := [4]bool{tt.room, tt.plenty, tt.few, tt.isEmpty}; got != want {
			t.Errorf("%s: room, plenty, few, empty are %v, want %v", name, got, want)
		}
	}
}

// TestWindowWakes: whoever waits for next sees every give and wake.
func TestWindowWakes(t *testing.T) {
	var w window
	const batches = 1000
	for range batches {
		w.take(1)
	}
	for range 2 {
		go func() {
			for range batches / 2 {
				w.give(1)
				w.wake()
			}
		}()
	}
	for changed := w.next(); !w.empty(); changed = w.next() {
		<-changed
	}
}
