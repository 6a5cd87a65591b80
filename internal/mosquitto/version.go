package mosquitto

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/mqttetl/mqttetl/internal/client"
)

// Version is the version of MQTT as every command takes it.
type Version byte

func (v *Version) String() string {
	switch *v {
	case client.Version5:
		return "5"
	case client.Version311:
		return "3.1.1"
	case client.Version31:
		return "3.1"
	}
	return "auto"
}

func (v *Version) Type() string { return "version" }

func (v *Version) Set(text string) error {
	version, err := client.ParseVersion(text)
	if err == nil {
		*v = Version(version)
	}
	return err
}

// AddVersion adds -V, --mqtt-version, which is also --protocol-version, as
// mosquitto_pub calls it.
func AddVersion(flags *pflag.FlagSet, v *Version) {
	flags.VarP(v, "mqtt-version", "V", "version of MQTT: auto (5, and 3.1.1 where the broker does not speak it), 5 or 3.1.1")
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "protocol-version" {
			name = "mqtt-version"
		}
		return pflag.NormalizedName(name)
	})
}

// Spoken says so if the broker has brought us down to MQTT 3.1.1, and what that
// means here.
func (v *Version) Spoken(w io.Writer, version byte, so string) {
	if *v == client.VersionAuto && version == client.Version311 {
		fmt.Fprintf(w, "mqttetl: the broker does not speak MQTT 5; going on with 3.1.1%s\n", so)
	}
}
