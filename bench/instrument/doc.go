// Package instrument is what every measurement here shares: what a process has
// used, how long something took and how often, over several rounds, on which
// machine; and roles of a program as processes of their own, so that their
// processor time is not mixed with anybody else's.
package instrument
