package door

import (
	"errors"
	"log/slog"
	"time"

	"github.com/mqttetl/mqttetl/ingest"
	"github.com/mqttetl/mqttetl/ingest/session"
)

// Config describes one listener.
type Config struct {
	Name string // recorded as the source of every message
	URL  string // mqtt://host:port, mqtts://host:port, unix:///path

	Cert, Key, ClientCA string // PEM files, with mqtts; a ClientCA asks clients for a certificate
	CommonName          bool   // the certificate says who a client is, not the user name

	Anonymous         bool   // clients without a user name may come in
	PasswordFile      string // "": nobody has a password
	ACLFile           string // "": who comes in may publish everything
	AcknowledgeDenied bool   // before MQTT 5, what may not be published is acknowledged and dropped, as by Mosquitto; false: the connection ends

	MaxConnections int
	MaxPacket      int           // bytes
	ReceiveMaximum uint16        // told to clients of MQTT 5
	KeepAliveMax   time.Duration // of clients of MQTT 5, which are told of a shorter one

	Logger  *slog.Logger    // nil: discard
	Sources *ingest.Metrics // the counters that sources have too; nil: unregistered
	Metrics *Metrics        // nil: unregistered
}

// Log is what a door needs of the log.
type Log = session.Log

// Bounds on what strangers and clients can take.
const (
	connectTime                = 10 * time.Second // until CONNECT has come
	loginTime                  = 20 * time.Second // from there until the password is known to be right
	mostConnect                = 512 << 10        // bytes of a CONNECT
	freeConnect                = 4 << 10          // bytes of it that count for nothing
	connectBudget              = 32 << 20         // bytes of all CONNECTs that have not been accepted, beyond these
	strangersPart              = 4                // the part of all connections that may not have logged in,
	ofOnePart                  = 8                // the part of these that one address may have,
	leastStrangers, leastOfOne = 16, 8            // and how many it is at least
	unreadTime                 = time.Minute      // what a client may take to read what it is owed
	mostAliases                = 16               // topic aliases of a client
	aliasBytes                 = 16 << 10         // of all topics that have one
	mostTopics                 = 64               // topics of a client that need no look at the ACL
	longTopic                  = 256              // bytes from which one is not among these
	recognised                 = 1024             // messages of QoS 1 of a client that are known when they come again
	inputSize                  = 2 << 10          // bytes of the read buffer of a client that sends little
	budget                     = 64 << 20         // bytes that all clients together have handed to the log and not got back
	unfinished                 = 256 << 20        // bytes of messages of all clients that have not wholly come
	mostWaitingWills           = 64 << 20         // bytes of wills that wait for the log
	mostLateWills              = 64 << 20         // bytes of wills that wait for their time
	leastWill                  = 1 << 10          // bytes that one counts beside what is in it
	partOfUser                 = 4                // the part of the sessions that are away which one user of several may have
	longestID                  = 1 << 10          // bytes of a client id
	awayPerClient              = 4                // sessions of clients that are away, for each connection that may be
)

func (c *Config) check() error {
	if !c.Anonymous && c.PasswordFile == "" && !c.CommonName {
		return errors.New("nobody can connect: there is no password_file, and anonymous is false")
	}
	return nil
}
