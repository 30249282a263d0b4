package proxy

import (
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/urlpath"
)

// normalizePath normalizes the path of a request, without query. The result is
// path itself or text appended to scratch, which is returned grown. ok is false
// for a path that must be answered 400.
func normalizePath(scratch []byte, path string, mode config.Normalization) (string, []byte, bool) {
	at, need := len(scratch), 3*len(path)
	if cap(scratch)-at < need && urlpath.Mode(mode) != urlpath.None {
		grown := make([]byte, at, at+need+scratchRoom)
		copy(grown, scratch)
		scratch = grown
	}
	out, ok, changed := urlpath.Normalize(scratch[at:at:cap(scratch)], path, urlpath.Mode(mode))
	if changed {
		scratch = scratch[:at+len(out)]
	}
	return out, scratch, ok
}
