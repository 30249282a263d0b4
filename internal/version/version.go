// Package version says which build this is. It is set at link time
// (-ldflags "-X waypoint.dev/waypoint/internal/version.Version=v1.2.3") and
// falls back to what the Go toolchain recorded. Read-only after start.
package version

import "runtime/debug"

// Version is the release, empty in builds that name none.
var Version string

// String is the release, or the commit the binary was built from.
func String() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	rev, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if len(rev) > 12 {
		rev = rev[:12]
	}
	if rev == "" {
		return "devel"
	}
	return "devel-" + rev + dirty
}
