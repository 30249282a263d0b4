// Package urlpath normalizes request paths as Istio's meshConfig.pathNormalization
// asks, so that policy, routing and the application see the same path.
//
// [Split] takes a request target apart, [Normalize] rewrites its path. Both work
// on borrowed text and do not allocate as long as the caller's buffer holds the
// result; a path with nothing to do is returned as it came.
//
// The rules are those of Envoy's normalize_path (Chromium's URL canonicalizer),
// merge_slashes and UNESCAPE_AND_FORWARD, with one difference: a path in which
// decoding would form a new escape, such as "%%32e", is refused, since a second
// normalization downstream would read it differently.
package urlpath
