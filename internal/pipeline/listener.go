package pipeline

import (
	"github.com/mqttetl/mqttetl/ingest/door"
	"github.com/mqttetl/mqttetl/internal/config"
)

// listenerPart receives from devices.
type listenerPart struct {
	*door.Door
	p *Pipeline
}

func (p *Pipeline) newListener(l config.Listener) (Part, error) {
	d, err := door.Open(door.Config{
		Name: l.Name, URL: l.URL, Cert: l.Cert, Key: l.Key, ClientCA: l.ClientCA, CommonName: l.CommonName, AcknowledgeDenied: l.AcknowledgeDenied,
		Anonymous: l.Anonymous, PasswordFile: l.PasswordFile, ACLFile: l.ACLFile,
		MaxConnections: l.MaxConnections, MaxPacket: int(l.MaxPacket), ReceiveMaximum: uint16(l.ReceiveMaximum), KeepAliveMax: l.KeepAliveMax,
		Logger: p.o.Logger.With("part", "listen"), Sources: p.metrics.sources, Metrics: p.metrics.doors,
	}, p.log)
	if err != nil {
		return nil, err
	}
	return listenerPart{d, p}, nil
}

func (l listenerPart) Ready() string { return "" } // it listens since it was made

func (l listenerPart) report(to *Status) {
	v := l.Stats()
	to.Listeners = append(to.Listeners, ListenerStatus{v.Name, v.Address, v.Clients, v.Sessions, v.Received, v.Acknowledged, v.Redelivered, v.QoS0})
}

func (l listenerPart) forget() {
	l.p.metrics.sources.Forget(l.Stats().Name)
	l.p.metrics.doors.Forget(l.Stats().Name)
}
