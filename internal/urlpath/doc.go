// Package urlpath normalizes request paths as Istio's meshConfig.pathNormalization
// asks, so that policy, routing and the application see the same path.
//
// [Normalize] takes a path without its query and returns it rewritten, in a buffer
// of the caller's; a path with nothing to do is returned as it came. It works on
// borrowed text and does not allocate as long as the buffer holds the result. It
// keeps no state, so it may be called from anywhere.
//
// The rules are those of Envoy's normalize_path (Chromium's URL canonicalizer),
// merge_slashes and UNESCAPE_AND_FORWARD.
package urlpath
