package originate

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// signature begins a header of version 2 (PROXY protocol specification, 2.2).
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// header returns the PROXY protocol header for a connection from src to dst. If
// they are not both known it says UNKNOWN (version 1) or LOCAL (version 2).
func header(version uint8, src, dst netip.AddrPort) []byte {
	known := src.IsValid() && dst.IsValid()
	s, d := src.Addr().Unmap().WithZone(""), dst.Addr().Unmap().WithZone("")
	four := s.Is4() && d.Is4()
	if known && !four { // both ends have to be of one family
		s, d = netip.AddrFrom16(s.As16()), netip.AddrFrom16(d.As16())
	}
	if version == 1 {
		if !known {
			return []byte("PROXY UNKNOWN\r\n")
		}
		family := "TCP6"
		if four {
			family = "TCP4"
		}
		return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", family, s, d, src.Port(), dst.Port())
	}
	b := []byte(signature)
	if !known {
		return append(b, 0x20, 0, 0, 0) // version 2, LOCAL, UNSPEC, no addresses
	}
	family := byte(0x21) // TCP over IPv6
	if four {
		family = 0x11
	}
	b = append(b, 0x21, family) // version 2, PROXY
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(s.AsSlice())+4))
	b = append(append(b, s.AsSlice()...), d.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	return binary.BigEndian.AppendUint16(b, dst.Port())
}
