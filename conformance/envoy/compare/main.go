// Command compare measures what a request costs Envoy and this waypoint, both as
// processes of their own between one HBONE client and one HBONE backend:
//
//	go run ./envoy/compare -waypoint ../bin/waypoint [-quick]
//
// Both serve the same service with a route and an ALLOW policy, on one thread
// (--concurrency 1, GOMAXPROCS=1), with statistics on and the access log off. Runs
// alternate A B B A, so that what else the machine does meets both alike. CPU is
// utime+stime of /proc/PID/stat; read the ratio rather than the figures.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"

	"waypoint.dev/waypoint/conformance/load"
	"waypoint.dev/waypoint/conformance/measure"
)

var (
	binary  = flag.String("waypoint", "../bin/waypoint", "the waypoint binary")
	quick   = flag.Bool("quick", false, "fewer and shorter runs")
	backend = flag.String("backend", "", "internal: serve as the backend with the identity in this directory")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *backend != "" {
		err = measure.ServeBackend(*backend, pod, "cluster.local")
	} else {
		err = compare(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// shape is one way of sending requests.
type shape struct {
	name           string
	conns, streams int
	rate           float64
}

var shapes = []shape{
	{"8 x 1", 8, 1, 0},
	{"4 x 4", 4, 4, 0},
	{"paced 1,000/s", 8, 1, 1000},
}

func compare(ctx context.Context) error {
	rounds, requests, seconds := 5, 40000, 8
	if *quick {
		rounds, requests, seconds = 3, 20000, 5
	}
	l, err := newLab(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	fmt.Printf("%s, %d cores, %s; %d rounds of A B B A\n", measure.CPUModel(), runtime.NumCPU(), runtime.Version(), rounds)
	fmt.Printf("RSS idle: envoy %.1f MiB, waypoint %.1f MiB\n\n", measure.MiB(l.envoy.RSS()), measure.MiB(l.waypoint.RSS()))
	fmt.Println("| shape | Envoy CPU us/request (min-max) | waypoint CPU us/request (min-max) | waypoint / Envoy | p50, p99 of Envoy | p50, p99 of waypoint |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, s := range shapes {
		n := requests
		if s.rate > 0 {
			n = int(s.rate) * seconds
		}
		if err := l.measure(ctx, s, rounds, n); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	fmt.Printf("\nRSS after: envoy %.1f MiB, waypoint %.1f MiB\n", measure.MiB(l.envoy.RSS()), measure.MiB(l.waypoint.RSS()))
	return nil
}

// side is one proxy in one shape.
type side struct {
	p        *proxy
	session  *load.Session
	cpu      []float64 // us a request
	p50, p99 []float64 // us
}

func (l *lab) measure(ctx context.Context, s shape, rounds, n int) error {
	var sides []*side
	for _, p := range []*proxy{l.envoy, l.waypoint} {
		sess, err := load.Open(ctx, load.Workload{
			Waypoint: p.addr, Client: l.client, Authority: l.authority, Conns: s.conns, Streams: s.streams,
			Request: []byte("GET /1024 HTTP/1.1\r\nhost: " + l.host + "\r\nuser-agent: load\r\nx-request-id: 6f1c2a5e-0b1d-4f6e-9d3a-0123456789ab\r\n\r\n"),
		})
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		defer sess.Close()
		sides = append(sides, &side{p: p, session: sess})
	}
	for _, sd := range sides { // warm up
		if err := sd.run(ctx, n/4, s.rate, false); err != nil {
			return err
		}
	}
	for range rounds {
		for _, i := range []int{0, 1, 1, 0} {
			if err := sides[i].run(ctx, n, s.rate, true); err != nil {
				return err
			}
		}
	}
	a, b := sides[0], sides[1]
	fmt.Printf("| %s | %s | %s | %.2f | %.0f, %.0f us | %.0f, %.0f us |\n", s.name, spread(a.cpu), spread(b.cpu), measure.Median(b.cpu)/measure.Median(a.cpu),
		measure.Median(a.p50), measure.Median(a.p99), measure.Median(b.p50), measure.Median(b.p99))
	return nil
}

func (sd *side) run(ctx context.Context, n int, rate float64, count bool) error {
	before := sd.p.CPU()
	r, err := sd.session.Run(ctx, n, rate)
	if err != nil {
		return err
	}
	spent := sd.p.CPU() - before
	if r.Failed > 0 {
		return fmt.Errorf("%s: %d of %d requests failed: %w", sd.p.name, r.Failed, r.Requests, r.FirstError)
	}
	if count {
		sd.cpu = append(sd.cpu, float64(spent.Microseconds())/float64(r.Requests))
		sd.p50 = append(sd.p50, float64(r.Quantile(.5))/float64(time.Microsecond))
		sd.p99 = append(sd.p99, float64(r.Quantile(.99))/float64(time.Microsecond))
	}
	return nil
}

func spread(v []float64) string {
	return fmt.Sprintf("%.1f (%.1f-%.1f)", measure.Median(v), slices.Min(v), slices.Max(v))
}
