// Package urlpath normalizes request paths as Istio's meshConfig.pathNormalization
// asks, so that policy, routing and the application see the same path.
//
// [Split] takes a request target apart, [Normalize] rewrites its path. Both work
// on borrowed text and do not allocate as long as the caller's buffer holds the
// result; a path with nothing to do is returned as it came.
//
// The rules are those of Envoy's normalize_path (Chromium's URL canonicalizer),
// merge_slashes and UNESCAPE_AND_FORWARD.
package urlpath
