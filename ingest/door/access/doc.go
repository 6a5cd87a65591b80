// Package access decides who may come in by the front door, and what a client may
// do there. It reads the password_file and acl_file of Mosquitto, and the certificates of a listener.
//
// Its invariant: a file is in force as a whole or not at all. One with a broken
// line is refused with the line's number, at the start and when it has changed;
// then what was read before stays in force.
package access
