package main

import (
	"fmt"
	"log/slog"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
)

// trusting notes which trust domains it is told of.
type trusting struct {
	identity.Source
	told []string
}

func (t *trusting) SetTrustDomains(d []string) error {
	t.told = append(t.told, fmt.Sprint(d))
	return nil
}

// TestTrustFollowsTheMesh passes on the trust domains that the control plane tells of,
// and none while it has not told any.
func TestTrustFollowsTheMesh(t *testing.T) {
	ids := &trusting{}
	trust(ids, config.Mesh{}, slog.New(slog.DiscardHandler))
	trust(ids, config.Mesh{TrustDomain: "a", TrustAliases: []string{"b", "c"}}, slog.New(slog.DiscardHandler))
	if got := fmt.Sprint(ids.told); got != "[[a b c]]" {
		t.Error(got)
	}
}
