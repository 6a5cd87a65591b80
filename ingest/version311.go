package ingest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// version311 is MQTT 3.1.1 by paho.mqtt.golang, one client for each connection.
// Of the library only the control plane is used: it acknowledges nothing, since
// it never sees a PUBLISH.
type version311 struct{}

// run keeps l connected (see plane).
func (version311) run(ctx context.Context, l *link) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(l.delay()):
		}
		if change := l.connection311(ctx); change && ctx.Err() == nil {
			return errVersion
		}
	}
}

// connection311 makes one connection and returns when it has ended; change says
// that the next one is to be of MQTT 5.
func (l *link) connection311(ctx context.Context) (change bool) {
	var conn *conn
	user, password, err := l.cfg.Login(l.url)
	if err != nil {
		l.failed(err)
		return false
	}
	o := l.options311(user, password)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		if conn, err = l.dial(ctx, false); err != nil {
			return nil, err
		}
		return &wholePackets{conn: conn}, nil
	})
	client := mqtt.NewClient(o)
	t := client.Connect().(*mqtt.ConnectToken)
	<-t.Done() // the dialer and SetConnectTimeout bound it
	if err := t.Error(); err != nil {
		return l.failed311(l.notAccepted(err))
	}
	l.up(ctx, l.ask311(client, t.SessionPresent()))
	select {
	case <-ctx.Done():
	case <-conn.data.Closed():
	}
	// Sends DISCONNECT if it still can, and ends the client's goroutines.
	client.Disconnect(uint(windDown.Milliseconds()))
	_ = conn.Close()
	l.down()
	return l.ended311()
}

func (l *link) options311(user, password string) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().
		AddBroker(l.url.String()).
		SetProtocolVersion(4).
		SetClientID(l.clientID).
		SetUsername(user).
		SetPassword(password).
		SetCleanSession(false).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(connectTime).
		SetWriteTimeout(askTime).
		SetKeepAlive(time.Duration(l.cfg.keepAliveSeconds()) * time.Second).
		SetPingTimeout(l.cfg.KeepAlive)
}

// ask311 returns how to subscribe, nil if the session holds the subscriptions:
// to subscribe again would bring the retained messages again.
func (l *link) ask311(client mqtt.Client, present bool) subscribeFunc {
	if present && l.cfg.Retained != RetainAlways && l.wasSubscribed() {
		return nil
	}
	return func(ctx context.Context, filter string, qos byte, _ RetainHandling) (byte, string, error) {
		t := client.Subscribe(filter, qos, nil).(*mqtt.SubscribeToken)
		timeout := time.NewTimer(l.pace.suback)
		defer timeout.Stop()
		select {
		case <-t.Done():
		case <-timeout.C:
			return 0, "", fmt.Errorf("no SUBACK within %s", l.pace.suback)
		case <-ctx.Done():
			return 0, "", ctx.Err()
		}
		code, answered := t.Result()[filter]
		if err := t.Error(); err != nil || answered {
			return code, "", err
		}
		return 0, "", wire.Malformed("something else than a SUBACK for a SUBSCRIBE")
	}
}

// askTime is how long a SUBSCRIBE may wait to be sent. A client that has begun
// to disconnect takes none any more, and would have its caller wait for half a
// minute.
const askTime = 2 * time.Second

// wholePackets is the conn for a control plane that neither locks nor promises
// one Write for a packet: it collects until a packet is complete.
type wholePackets struct {
	*conn
	mu   sync.Mutex
	part []byte
}

// Write sends the packets that p completes.
func (w *wholePackets) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.part = append(w.part, p...)
	for {
		_, size, remaining, err := wire.FixedHeader(w.part)
		if err != nil {
			return 0, err
		}
		if size == 0 || len(w.part) < size+remaining {
			return len(p), nil
		}
		if err := w.send(w.part[:size+remaining]); err != nil {
			return 0, err
		}
		w.part = append(w.part[:0], w.part[size+remaining:]...)
	}
}

// SetWriteDeadline does nothing: the acknowledgements are written beside the
// control plane's packets, and may wait for the broker longer than these.
func (w *wholePackets) SetWriteDeadline(time.Time) error { return nil }

func (w *wholePackets) send(packet []byte) error {
	w.conn.Lock()
	defer w.conn.Unlock()
	_, err := w.conn.Write(packet)
	return err
}
