package urlpath

import (
	"unsafe"
)

// Mode is a meshConfig.pathNormalization.
type Mode uint8

// The order is that of config.Normalization.
const (
	Base                  Mode = iota // Istio's default
	None                              // leave the path alone
	MergeSlashes                      // Base, then join runs of slashes
	DecodeAndMergeSlashes             // decode %2F and %5C, then MergeSlashes
)

// Normalize rewrites path, which has no query and no fragment. The result is path
// itself (changed is false) or text in dst, whose content is overwritten: it is
// valid as long as dst is not reused. A dst of cap 3*len(path) never grows.
//
// ok is false if the request must be answered 400: the path holds an encoded or
// raw NUL, or does not start with a slash (Envoy's connection manager answers
// such a target 404 before it comes here).
func Normalize(dst []byte, path string, mode Mode) (out string, ok, changed bool) {
	if path == "" || path[0] != '/' {
		return path, false, false
	}
	if mode == None || clean(path, mode) {
		return path, true, false
	}
	dst, ok = canonicalize(dst[:0], path, mode == DecodeAndMergeSlashes)
	if !ok {
		return path, false, false
	}
	if mode != Base {
		dst = mergeSlashes(dst)
	}
	out = unsafe.String(unsafe.SliceData(dst), len(dst))
	if out == path {
		return path, true, false
	}
	return out, true, true
}

const (
	plain   uint8 = iota
	escape        // written as %XX
	special       // needs the slow path: % \ /. or NUL
)

// chars tells what Base does to each raw byte, after the path table of
// Chromium's URL canonicalizer.
var chars = func() (t [256]uint8) {
	for c := 0; c < 256; c++ {
		if c <= ' ' || c >= 0x7f {
			t[c] = escape
		}
	}
	for _, c := range []byte("\"<>^`{|}#?") {
		t[c] = escape
	}
	t['%'], t['\\'], t[0] = special, special, special
	return t
}()

// clean reports whether path is certainly in normal form already.
func clean(path string, mode Mode) bool {
	for i := 0; i < len(path); i++ {
		c := path[i]
		if chars[c] != plain {
			return false
		}
		if c == '/' && i+1 < len(path) {
			if n := path[i+1]; n == '.' || n == '/' && mode != Base {
				return false
			}
		}
	}
	return true
}

// canonicalize appends the normal form of path to dst.
func canonicalize(dst []byte, path string, decodeSlashes bool) ([]byte, bool) {
	stray := -4 // where dst holds a % that starts no escape
	for i := 0; i < len(path); {
		if len(dst) > 0 && dst[len(dst)-1] == '/' {
			if dots, next := dotSegment(path, i, decodeSlashes); dots > 0 {
				if dots == 2 {
					dst = parent(dst)
				}
				i = next
				continue
			}
		}
		c := path[i]
		if slash, n := slashAt(path, i, decodeSlashes); slash {
			dst = append(dst, '/')
			i += n
			continue
		}
		if c == '%' {
			v, valid := unhex(path, i)
			switch {
			case !valid:
				stray = len(dst)
				dst = append(dst, '%')
				i++
				continue
			case v == 0:
				return dst, false
			case unreserved(v):
				dst = guardNested(append(dst, v), stray, path[i+3:])
			default:
				dst = append(dst, path[i:i+3]...)
			}
			i += 3
			continue
		}
		i++
		switch {
		case c == 0:
			return dst, false
		case chars[c] == escape:
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst, true
}

// guardNested rewrites the stray % of dst as %25 if the octet just decoded would
// turn it into an escape ("%%32e" must not become "%2e"), as Chromium does.
func guardNested(dst []byte, stray int, rest string) []byte {
	n := len(dst)
	switch {
	case n-stray == 2: // "%c", and the next character would complete it
		if !isHex(dst[n-1]) || rest == "" || !isHex(rest[0]) {
			return dst
		}
	case n-stray == 3:
		if !isHex(dst[n-2]) || !isHex(dst[n-1]) {
			return dst
		}
	default:
		return dst
	}
	dst = append(dst, 0, 0)
	copy(dst[stray+3:], dst[stray+1:n])
	dst[stray+1], dst[stray+2] = '2', '5'
	return dst
}

const upperHex = "0123456789ABCDEF"

// slashAt reports whether a slash stands at i, in any spelling, and its length.
func slashAt(path string, i int, decode bool) (bool, int) {
	switch path[i] {
	case '/', '\\':
		return true, 1
	case '%':
		if decode {
			if v, ok := unhex(path, i); ok && (v == '/' || v == '\\') {
				return true, 3
			}
		}
	}
	return false, 0
}

// dotSegment reports whether the segment that starts at i is "." (1) or ".." (2),
// dots possibly encoded, with or without parameters; next is behind its closing slash.
//
// A backend that knows path parameters (RFC 3986 section 3.3) reads "..;x" as "..";
// Envoy resolves it since 1.40, though only with raw dots behind a raw slash. Here
// every spelling counts, so that none reaches such a backend past a policy.
func dotSegment(path string, i int, decode bool) (dots, next int) {
	for dots < 3 && i < len(path) {
		switch {
		case path[i] == '.':
			i++
		case len(path)-i >= 3 && path[i] == '%' && path[i+1] == '2' && path[i+2]|0x20 == 'e':
			i += 3
		default:
			if path[i] == ';' && dots > 0 {
				return dots, behindSlash(path, i, decode)
			}
			slash, n := slashAt(path, i, decode)
			if !slash {
				return 0, 0
			}
			return dots, i + n
		}
		dots++
	}
	if dots > 2 {
		return 0, 0
	}
	return dots, i
}

// behindSlash returns the position behind the next slash, or the end of path.
func behindSlash(path string, i int, decode bool) int {
	for ; i < len(path); i++ {
		if slash, n := slashAt(path, i, decode); slash {
			return i + n
		}
	}
	return i
}

// parent drops the last segment of dst, which ends with a slash.
func parent(dst []byte) []byte {
	end := len(dst) - 1
	for end > 0 && dst[end-1] != '/' {
		end--
	}
	if end == 0 {
		return dst[:1]
	}
	return dst[:end]
}

func mergeSlashes(dst []byte) []byte {
	out := dst[:0]
	for i, c := range dst {
		if c == '/' && i > 0 && dst[i-1] == '/' && len(out) > 0 && out[len(out)-1] == '/' {
			continue
		}
		out = append(out, c)
	}
	return out
}

func unhex(s string, i int) (byte, bool) {
	if len(s)-i < 3 || !isHex(s[i+1]) || !isHex(s[i+2]) {
		return 0, false
	}
	return nibble(s[i+1])<<4 | nibble(s[i+2]), true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func nibble(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// unreserved is RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
