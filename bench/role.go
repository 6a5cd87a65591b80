package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The parts of the benchmark that are processes of their own, so that their
// processor time is not mixed with anybody else's. Each is this program again,
// as "role NAME PARAMETERS", and speaks JSON lines with the one that started it.
var roles = map[string]func(*link, []byte) error{
	"serve":   role(serve),
	"null":    role(null),
	"floor":   role(floor),
	"publish": role(publish),
	"bare":    role(bare),
	"fill":    role(fill),
	"core":    role(core),
	"listen":  role(listen),
	"beat":    role(beat),
}

// role reads the parameters of a role.
func role[P any](run func(*link, P) error) func(*link, []byte) error {
	return func(l *link, parameters []byte) error {
		var p P
		if err := json.Unmarshal(parameters, &p); err != nil {
			return err
		}
		return run(l, p)
	}
}

// A link is a role's end of its conversation. It ends when the other side ends.
type link struct {
	out *json.Encoder
	in  *bufio.Scanner
}

// runRole is the main function of a role.
func runRole(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 2 || roles[args[0]] == nil {
		return fmt.Errorf("role %q: unknown", args)
	}
	l := &link{out: json.NewEncoder(stdout), in: bufio.NewScanner(stdin)}
	if err := roles[args[0]](l, []byte(args[1])); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return nil
}

// say sends v.
func (l *link) say(v any) error { return l.out.Encode(v) }

// end sends the last thing that there is to say, and waits until the role is to end.
func (l *link) end(v any) error {
	err := l.say(v)
	l.awaitEnd()
	return err
}

// done says when a delivery was.
func (l *link) done(t deliveryTimes) error { return l.end(delivered{deliveryTimes: t}) }

// awaitGo waits for the word to begin.
func (l *link) awaitGo() error {
	if !l.in.Scan() {
		return errors.Join(errors.New("not told to begin"), l.in.Err())
	}
	return nil
}

// awaitEnd waits until the other side has gone or wants this role to end.
func (l *link) awaitEnd() {
	for l.in.Scan() {
		continue
	}
}
