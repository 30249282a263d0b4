package istiod

import (
	"waypoint.dev/waypoint/config"
)

// World holds what istiod sent.
type World struct {
	opts Options
}

// NewWorld returns an empty world.
func NewWorld(o Options) *World { return &World{opts: o} }

// Apply takes the resources of one response. Resources that cannot be decoded are
// returned as errors and keep their previous version; all others apply.
func (w *World) Apply(typeURL string, upserts []Resource, removals []string) []*ResourceError {
	return nil
}

// Model returns the model of what is known.
func (w *World) Model() *config.Model { return &config.Model{} }

// Versions returns the versions held of a type, for initial_resource_versions.
func (w *World) Versions(typeURL string) map[string]string { return nil }

// Wanted names the resources of a type that others refer to, in order:
// EndpointsType, ExtensionType, SecretType. Other types are subscribed to as a
// whole and give nil.
func (w *World) Wanted(typeURL string) []string { return nil }
