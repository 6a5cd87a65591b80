// Package prove breaks mqttetl, its servers, its drive and its network in many
// ways, many times, and counts: what a publisher saw acknowledged must be in the
// log, in the archive and in the stream, each record once.
//
// A Campaign is one way to break things. Each has controls: builds or settings
// that are broken on purpose and that the campaign must notice. A campaign whose
// control goes unnoticed has failed, for then its zero losses say nothing.
//
// go test runs the short form of all campaigns with all controls; make prove
// runs the long form and writes docs/reliability.md. The seed is printed;
//
//	go test ./test/prove -run TestCampaigns -v -prove.campaign=NAME -prove.seed=N -prove.trials=1
//
// replays trial i of a run with seed S as N = S+i.
package prove
