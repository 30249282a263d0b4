package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"waypoint.dev/waypoint/admin"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/version"
)

var errNoCertificate = errors.New("no certificate yet")

// errStopped ends a wait that POST /quitquitquit ended; it is no failure.
var errStopped = errors.New("told to stop while waiting for a certificate")

// awaitIdentity has get wait for the first certificate, with the administration ports
// open meanwhile.
func awaitIdentity(ctx context.Context, ports admin.Addrs, level *slog.LevelVar, log *slog.Logger, get func(context.Context) (identity.Source, error)) (identity.Source, error) {
	waiting, quit := context.WithCancel(ctx)
	defer quit()
	door, err := waitingRoom(ports, level, quit, log)
	if err != nil {
		return nil, err
	}
	defer door.Close()
	ids, err := get(waiting)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return nil, errStopped
	}
	return ids, err
}

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
