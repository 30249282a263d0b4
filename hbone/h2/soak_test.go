//go:build soak

package h2

func init() { interopBytes = 1 << 30 }
