package main

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"waypoint.dev/waypoint/admin"
	"waypoint.dev/waypoint/internal/version"
)

var errNoCertificate = errors.New("no certificate yet")

// waitingRoom serves the administration ports while the first certificate is waited
// for, which may take as long as the CA is away: probes are told why, and the process
// can be looked at. quit ends the wait. Close it before the instance opens the same ports.
func waitingRoom(ports admin.Addrs, level *slog.LevelVar, quit func(), log *slog.Logger) (*admin.Server, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return admin.Start(ports, admin.Options{
		Metrics: reg, Level: level, Log: log,
		Ready: func() error { return errNoCertificate },
		Quit:  quit,
		Info:  func() any { return map[string]any{"version": version.String(), "state": "PRE_INITIALIZING"} },
	})
}
