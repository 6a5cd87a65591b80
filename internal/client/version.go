package client

import (
	"context"
	"errors"
	"net"

	"github.com/mqttetl/mqttetl/internal/dial"
)

// VersionAuto is MQTT 5, or 3.1.1 with a broker that refuses MQTT 5, closes the
// connection at its CONNECT, or does not answer it.
const VersionAuto = 0

// Versions are the versions of MQTT as every command takes them.
const Versions = "auto, 5 or 3.1.1"

// ParseVersion reads a version of MQTT: one of Versions, or as mosquitto_pub
// writes it: mqttv5, mqttv311, 311, and mqttv31, 31 for the one before 3.1.1.
func ParseVersion(text string) (byte, error) {
	switch text {
	case "auto":
		return VersionAuto, nil
	case "5", "5.0", "mqttv5":
		return Version5, nil
	case "3.1.1", "311", "mqttv311":
		return Version311, nil
	case "3.1", "31", "mqttv31":
		return Version31, nil
	}
	return 0, errors.New("must be " + Versions)
}

// ConnectAuto opens a stream and logs in over it. Where o.Version is VersionAuto
// it tries MQTT 5 and then, over another stream, 3.1.1. The end of ctx ends the
// attempt, not the connection.
func ConnectAuto(ctx context.Context, open func(context.Context) (net.Conn, error), o Options) (*Client, error) {
	if o.Version != VersionAuto {
		return connectWithin(ctx, open, o)
	}
	var c *Client
	err := dial.EitherVersion(func(v5 bool) (err error) {
		if o.Version = Version311; v5 {
			o.Version = Version5
		}
		c, err = connectWithin(ctx, open, o)
		return err
	}, refusesVersion)
	return c, err
}

// connectWithin is Connect over a new stream, as long as ctx lasts.
func connectWithin(ctx context.Context, open func(context.Context) (net.Conn, error), o Options) (*Client, error) {
	conn, err := open(ctx)
	if err != nil {
		return nil, err
	}
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c, err := Connect(context.WithoutCancel(ctx), conn, o)
	if unhook() {
		return c, err
	}
	if c != nil {
		c.Close()
	}
	return nil, context.Cause(ctx)
}

func refusesVersion(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Version()
}
