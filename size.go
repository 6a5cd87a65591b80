package mqttetl

import (
	"fmt"
	"math"
	"strconv"
)

// FormatSize writes a number of bytes as configurations do: 16GiB, 1.5MiB, 4096 bytes.
func FormatSize(n int64) string {
	const units = "KMGT"
	if n < 1<<20 {
		return fmt.Sprintf("%d bytes", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1024 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) + units[unit:unit+1] + "iB"
}
