package main

import (
	"context"
	"fmt"
	"slices"

	"waypoint.dev/waypoint/conformance/load"
	"waypoint.dev/waypoint/conformance/measure"
)

const (
	// A burst is short, so that whatever else runs on the machine has hardly changed
	// when the other build has its turn, and long beside the slices of its scheduler.
	burstRequests = 4000
	burstPairs    = 20
)

// side is a process of one of two builds that are compared.
type side struct {
	*measure.Waypoint
	sess *load.Session
	cpu  []float64 // microseconds a request, of each burst
}

// compare measures how the CPU a request of another build relates to that of the
// first, for each shape or the one that is asked for.
func (l *lab) compare(ctx context.Context, first, second string) error {
	fmt.Printf("%-16s %10s %10s %8s\n", "shape", "us/req", "beside", "ratio (min-max)")
	for _, s := range shapes {
		if s.rate > 0 || *only != "" && *only != s.name {
			continue
		}
		var a, b, ratios []float64
		for i := range *runs {
			builds := []string{first, second}
			if i%2 == 1 {
				slices.Reverse(builds)
			}
			us, err := l.beside(ctx, builds, s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if i%2 == 1 {
				slices.Reverse(us)
			}
			a, b, ratios = append(a, us[0]), append(b, us[1]), append(ratios, us[1]/us[0])
		}
		fmt.Printf("%-16s %10.1f %10.1f %8.3f (%.3f-%.3f)\n", s.name, slices.Min(a), slices.Min(b),
			measure.Median(ratios), slices.Min(ratios), slices.Max(ratios))
	}
	return nil
}

// beside starts a process of each build and has them serve bursts in turn, through
// the same backend. Both see the same machine, so their ratio repeats where neither
// figure does; but two processes of one build differ too, by up to a tenth, so one
// pair says little. It returns the medians, in microseconds a request.
func (l *lab) beside(ctx context.Context, builds []string, s shape) (us []float64, err error) {
	sides := make([]*side, 0, len(builds))
	for _, b := range builds {
		p, err := l.another(b)
		if err != nil {
			return nil, err
		}
		defer p.End()
		w := l.workload(s, "/1024")
		w.Waypoint = p.HBONE
		sess, err := load.Open(ctx, w)
		if err != nil {
			return nil, err
		}
		defer sess.Close()
		if _, err := sess.Run(ctx, burstRequests, s.rate); err != nil { // warm
			return nil, err
		}
		sides = append(sides, &side{Waypoint: p, sess: sess})
	}
	for i := range burstPairs {
		for turn := range sides {
			sd := sides[(i+turn)%len(sides)]
			had := sd.Ran()
			r, err := sd.sess.Run(ctx, burstRequests, s.rate)
			if err != nil {
				return nil, err
			}
			if r.Failed > 0 {
				return nil, fmt.Errorf("%d of %d requests failed: %w", r.Failed, r.Requests, r.FirstError)
			}
			sd.cpu = append(sd.cpu, float64((sd.Ran()-had).Nanoseconds())/1e3/float64(r.Requests))
		}
	}
	for _, sd := range sides {
		us = append(us, measure.Median(sd.cpu))
	}
	return us, nil
}
