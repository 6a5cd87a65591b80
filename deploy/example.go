// Package deploy holds what an installation needs beside the binary. Its
// invariant: the example configuration that `mqttetl config example` prints is
// the file mqttetl.yaml of this folder, byte for byte.
package deploy

import _ "embed"

// Example is mqttetl.yaml: every setting, its default and what it means.
//
//go:embed mqttetl.yaml
var Example string
