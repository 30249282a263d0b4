package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// uuidLen is the length of a UUID in text (RFC 9562 section 4).
const uuidLen = 36

// appendUUID appends a random (version 4) UUID, what Envoy puts in x-request-id.
// It identifies, it does not authenticate, so the runtime's fast generator does:
// ChaCha8 per thread, seeded by the system.
func appendUUID(dst []byte) []byte {
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(u[8:], rand.Uint64())
	u[6] = u[6]&0x0f | 0x40 // version 4
	u[8] = u[8]&0x3f | 0x80 // variant of RFC 9562
	dst = hex.AppendEncode(dst, u[:4])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, u[4:6])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, u[6:8])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, u[8:10])
	dst = append(dst, '-')
	return hex.AppendEncode(dst, u[10:])
}
