package feed

import (
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
)

// Held is one resource as it was received.
type Held struct {
	Name    string
	Version string
	Body    *anypb.Any // immutable
	At      time.Time
}

// Refused is a resource of which the newest version could not be taken.
type Refused struct {
	Name, Version, Reason string
	At                    time.Time
}

// Resources returns what is held of a type, by name.
func (f *Feed) Resources(url string) []Held {
	f.mu.Lock()
	out := slices.AppendSeq([]Held{}, maps.Values(f.held[url]))
	f.mu.Unlock()
	slices.SortFunc(out, func(a, b Held) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Refusals returns what was refused of a type and not replaced since, by name.
func (f *Feed) Refusals(url string) []Refused {
	f.mu.Lock()
	out := slices.AppendSeq([]Refused{}, maps.Values(f.refused[url]))
	f.mu.Unlock()
	slices.SortFunc(out, func(a, b Refused) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Version returns the control plane's version of a type.
func (f *Feed) Version(url string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version[url]
}
