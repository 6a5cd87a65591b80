package format

import (
	"fmt"
	"time"
)

// layouts are the letters of strftime(3), in the C locale, that Go's layouts can
// express.
var layouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan",
	'c': "Mon Jan _2 15:04:05 2006", 'd': "02", 'D': "01/02/06", 'e': "_2", 'F': "2006-01-02",
	'H': "15", 'I': "03", 'j': "002", 'm': "01", 'M': "04", 'p': "PM", 'P': "pm", 'r': "03:04:05 PM",
	'R': "15:04", 'S': "05", 'T': "15:04:05", 'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006",
	'z': "-0700", 'Z': "MST", '+': "Mon Jan _2 15:04:05 MST 2006", 'n': "\n", 't': "\t", '%': "%",
}

// strftime appends what strftime(3) prints for a letter, and for N the
// nanoseconds within the second.
func strftime(dst []byte, letter byte, t time.Time) []byte {
	if layout, ok := layouts[letter]; ok {
		return t.AppendFormat(dst, layout)
	}
	isoYear, isoWeek := t.ISOWeek()
	weekday, yearDay := int(t.Weekday()), t.YearDay()-1
	switch letter {
	case 'C':
		return fmt.Appendf(dst, "%02d", t.Year()/100)
	case 'G':
		return fmt.Appendf(dst, "%d", isoYear)
	case 'g':
		return fmt.Appendf(dst, "%02d", isoYear%100)
	case 'V':
		return fmt.Appendf(dst, "%02d", isoWeek)
	case 'k':
		return fmt.Appendf(dst, "%2d", t.Hour())
	case 'l':
		return fmt.Appendf(dst, "%2d", (t.Hour()+11)%12+1)
	case 'N':
		return fmt.Appendf(dst, "%09d", t.Nanosecond())
	case 's':
		return fmt.Appendf(dst, "%d", t.Unix())
	case 'u':
		return fmt.Appendf(dst, "%d", (weekday+6)%7+1)
	case 'U': // weeks begin on Sunday
		return fmt.Appendf(dst, "%02d", (yearDay+7-weekday)/7)
	case 'w':
		return fmt.Appendf(dst, "%d", weekday)
	case 'W': // weeks begin on Monday
		return fmt.Appendf(dst, "%02d", (yearDay+7-(weekday+6)%7)/7)
	}
	return append(dst, '%', letter) // as glibc does
}
