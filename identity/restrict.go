package identity

import "crypto/tls"

// restricted is a Source whose handshakes use few key exchanges.
type restricted struct {
	Source
	curves []tls.CurveID
}

// Restrict returns src for handshakes that use only the given key exchanges, for
// compliance policies: [ServerTLS] and [ClientTLS] obey it. A peer that knows none
// of them fails the handshake. Without curves it is src itself.
func Restrict(src Source, curves []tls.CurveID) Source {
	if len(curves) == 0 {
		return src
	}
	return &restricted{src, curves}
}

// Curves are the key exchanges src is restricted to; nil: Go's choice.
func Curves(src Source) []tls.CurveID {
	if r, ok := src.(*restricted); ok {
		return r.curves
	}
	return nil
}
