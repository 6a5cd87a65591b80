// Package e2e runs mqttetl as a process between real servers, breaks things,
// and counts: what a publisher saw acknowledged must be in the archive and in
// the stream, each record once. Its tests are the end-to-end tests of the
// project.
package e2e
