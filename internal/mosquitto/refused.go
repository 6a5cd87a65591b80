package mosquitto

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// alone is the value of -o, which join takes out where it is a word of its own.
type alone struct{}

func (alone) String() string   { return "" }
func (alone) Type() string     { return "file" }
func (alone) Set(string) error { return errors.New("must be an argument of its own: -o FILE") }

// refusedOptions are mosquitto's that need what Go's TLS does not have: each is
// refused with what to do in its place.
type refusedOptions struct {
	psk, identity, ciphers, engine, password, keyform string
	srv                                               bool
}

func (r *refusedOptions) addFlags(f *pflag.FlagSet) {
	for name, value := range map[string]*string{
		"psk": &r.psk, "psk-identity": &r.identity, "ciphers": &r.ciphers,
		"tls-engine": &r.engine, "tls-engine-kpass-sha1": &r.password, "keyform": &r.keyform,
	} {
		f.StringVar(value, name, "", "")
		_ = f.MarkHidden(name) // it is there
	}
	f.BoolVarP(&r.srv, "srv", "S", false, "")
	_ = f.MarkHidden("srv")
}

func (r *refusedOptions) check() error {
	const advice = "mosquitto's programs have it"
	switch {
	case r.srv:
		return errors.New("no SRV look-up here: dig +short SRV _mqtt._tcp.HOST prints port and host for -p and -h")
	case r.psk != "" || r.identity != "":
		return fmt.Errorf("no pre-shared keys here: use certificates (--cafile, --cert, --key); %s", advice)
	case r.ciphers != "":
		return fmt.Errorf("no choice of ciphers here: --tls-version chooses TLS 1.2 or 1.3; %s", advice)
	case r.engine != "" || r.password != "" || r.keyform != "" && r.keyform != "pem":
		return fmt.Errorf("no TLS engines here: the key must be a PEM file; %s", advice)
	}
	return nil
}
