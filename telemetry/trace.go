package telemetry

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// Trace is an exchange's place in a trace. The zero value is none.
type Trace struct {
	ID      [16]byte
	Span    [8]byte // of this exchange
	Parent  [8]byte // zero: the trace begins here
	Sampled bool
}

// traceparentLen is the length of a version 00 header (W3C Trace Context,
// section 3.2): 00-<32 hex>-<16 hex>-<2 hex>.
const traceparentLen = 55

// ParseTraceparent reads a caller's header. A header of a later version is read
// as version 00, as the specification asks; anything malformed is no parent.
func ParseTraceparent(s string) (t Trace, ok bool) {
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Trace{}, false
	}
	version, flags := [1]byte{}, [1]byte{}
	if !unhex(version[:], s[:2]) || !unhex(t.ID[:], s[3:35]) || !unhex(t.Parent[:], s[36:52]) || !unhex(flags[:], s[53:55]) {
		return Trace{}, false
	}
	switch {
	case version[0] == 0xff, version[0] == 0 && len(s) != traceparentLen, len(s) > traceparentLen && s[traceparentLen] != '-':
		return Trace{}, false
	case t.ID == [16]byte{}, t.Parent == [8]byte{}:
		return Trace{}, false
	}
	t.Sampled = flags[0]&1 != 0
	return t, true
}

// unhex decodes lower-case hexadecimal only, as the specification has it.
func unhex(dst []byte, s string) bool {
	for i := range dst {
		hi, lo := nibble(s[2*i]), nibble(s[2*i+1])
		if hi|lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// AppendTraceparent writes the header for the next hop.
func (t *Trace) AppendTraceparent(b []byte) []byte {
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t.ID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.Span[:])
	if t.Sampled {
		return append(b, "-01"...)
	}
	return append(b, "-00"...)
}

// Sampler decides which exchanges become spans: those whose caller's trace is
// sampled, and a share of those that begin one.
type Sampler struct {
	threshold uint64 // of 2^64
}

// NewSampler samples percent (0 to 100) of the traces that begin here. Istio's
// default is 1.
func NewSampler(percent float64) Sampler {
	switch {
	case percent <= 0:
		return Sampler{}
	case percent >= 100:
		return Sampler{^uint64(0)}
	}
	return Sampler{uint64(percent / 100 * (1 << 63) * 2)}
}

// Place makes the exchange's place from its caller's header, which may be empty.
func (s Sampler) Place(traceparent string) Trace {
	t, ok := ParseTraceparent(traceparent)
	if !ok {
		binary.LittleEndian.PutUint64(t.ID[:8], rand.Uint64())
		binary.LittleEndian.PutUint64(t.ID[8:], rand.Uint64()|1) // never all zero
		t.Sampled = s.threshold == ^uint64(0) || rand.Uint64() < s.threshold
	}
	binary.LittleEndian.PutUint64(t.Span[:], rand.Uint64()|1)
	return t
}
