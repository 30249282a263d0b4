package measure

import (
	"os"
	"slices"
	"strings"
)

// Median is that of v, which is not empty; between the two in the middle where they
// are two.
func Median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// MiB is a size in mebibytes.
func MiB(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// CPUModel names the processor of this machine.
func CPUModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown CPU"
}
