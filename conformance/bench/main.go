// Command bench measures the waypoint process alone: CPU, allocations and memory
// a request, of the real binary, between an HBONE client and an HBONE backend
// that run in processes of their own.
//
//	go run ./bench -waypoint ../bin/waypoint [-requests 100000] [-quick]
//	go run ./bench -waypoint OLD -beside NEW [-only "4 x 4"]
//
// CPU is utime+stime of /proc/PID/stat over the requests of one run, so what
// other processes do changes it little; report ratios and the spread all the same.
// With -beside it is that of two builds, in turns.
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
	binary   = flag.String("waypoint", "bin/waypoint", "the waypoint binary")
	requests = flag.Int("requests", 40000, "requests of one run")
	runs     = flag.Int("runs", 5, "runs of each shape, or with -beside pairs of processes; the median is printed")
	quick    = flag.Bool("quick", false, "fewer and shorter runs")
	only     = flag.String("only", "", "the one shape to run, as printed; bulk is one too")
	other    = flag.String("beside", "", "another build of the waypoint: compare the CPU a request of the two, in turns of short bursts")
	profile  = flag.String("profile", "", "write a CPU profile of the waypoint over 20 s of the shapes here, and measure nothing")
	backend  = flag.String("backend", "", "internal: serve as the backend with the identity in this directory")
	pod      = flag.String("pod", "", "internal: the address of that backend")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *backend != "" {
		err = measure.ServeBackend(*backend, *pod+":15008", trustDomain)
	} else {
		err = bench(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
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
	{"1 x 16", 1, 16, 0},
	{"16 x 16", 16, 16, 0},
	{"paced 1,000/s", 8, 1, 1000},
}

func bench(ctx context.Context) error {
	if *quick {
		*runs, *requests = 3, 20000
	}
	l, err := start(ctx, *binary)
	if err != nil {
		return err
	}
	defer l.close()
	if *profile != "" {
		return l.profile(ctx, *profile, 20*time.Second)
	}
	if *other != "" {
		return l.compare(ctx, *binary, *other)
	}
	idle := l.waypoint.RSS()
	fmt.Printf("%s, %d cores, %s\nwaypoint idle: RSS %.1f MiB\n\n", runtime.Version(), runtime.NumCPU(), measure.CPUModel(), measure.MiB(idle))
	fmt.Printf("%-16s %10s %22s %12s %12s %9s %9s %8s\n", "shape", "req/s", "CPU us/req (min-max)", "mallocs/req", "r+w/req", "p50", "p99", "RSS MiB")
	for _, s := range shapes {
		if *only != "" && *only != s.name {
			continue
		}
		if err := l.measure(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if *only != "" && *only != "bulk" {
		return nil
	}
	return l.bulk(ctx)
}

func (l *lab) workload(s shape, path string) load.Workload {
	return load.Workload{Waypoint: l.waypoint.HBONE, Client: l.client, Authority: vip, Conns: s.conns, Streams: s.streams,
		Request: []byte("GET " + path + " HTTP/1.1\r\nhost: echo.bench.svc.cluster.local\r\nuser-agent: load\r\nx-request-id: 6f1c2a5e-0b1d-4f6e-9d3a-0123456789ab\r\n\r\n")}
}

// figures of the runs of one shape, each an element.
type figures struct {
	cpu, rate, mallocs, reads, writes []float64 // CPU in microseconds; but for the rate, a request
	last                              *load.Result
	rss                               int64
}

// sample runs a shape: once to warm up, then so often with n requests.
func (l *lab) sample(ctx context.Context, s shape, n, runs int) (f figures, err error) {
	sess, err := load.Open(ctx, l.workload(s, "/1024"))
	if err != nil {
		return f, err
	}
	defer sess.Close()
	if _, err := sess.Run(ctx, n/4, s.rate); err != nil {
		return f, err
	}
	for range runs {
		m0 := l.waypoint.Mallocs()
		c0 := l.waypoint.CPU()
		r0, w0 := l.waypoint.Calls()
		r, err := sess.Run(ctx, n, s.rate)
		if err != nil {
			return f, err
		}
		r1, w1 := l.waypoint.Calls()
		c1 := l.waypoint.CPU()
		m1 := l.waypoint.Mallocs()
		if r.Failed > 0 {
			return f, fmt.Errorf("%d of %d requests failed: %w", r.Failed, r.Requests, r.FirstError)
		}
		each := 1 / float64(r.Requests)
		f.cpu = append(f.cpu, float64((c1-c0).Microseconds())*each)
		f.mallocs = append(f.mallocs, float64(m1-m0)*each)
		f.reads = append(f.reads, float64(r1-r0)*each)
		f.writes = append(f.writes, float64(w1-w0)*each)
		f.rate = append(f.rate, r.PerSecond())
		f.last = r
	}
	f.rss = l.waypoint.RSS()
	return f, nil
}

func (l *lab) measure(ctx context.Context, s shape) error {
	n := *requests
	if s.rate > 0 {
		n = int(s.rate * 8)
	}
	f, err := l.sample(ctx, s, n, *runs)
	if err != nil {
		return err
	}
	fmt.Printf("%-16s %10.0f %22s %12.3f %12s %9v %9v %8.1f\n", s.name, measure.Median(f.rate),
		fmt.Sprintf("%.1f (%.1f-%.1f)", measure.Median(f.cpu), slices.Min(f.cpu), slices.Max(f.cpu)),
		measure.Median(f.mallocs), fmt.Sprintf("%.2f+%.2f", measure.Median(f.reads), measure.Median(f.writes)),
		f.last.Quantile(.5).Round(time.Microsecond), f.last.Quantile(.99).Round(time.Microsecond), measure.MiB(f.rss))
	return nil
}

func (l *lab) bulk(ctx context.Context) error {
	const size = 256 << 20
	w := l.workload(shape{"", 1, 1, 0}, fmt.Sprint("/", size))
	w.Buffer = 256 << 10
	sess, err := load.Open(ctx, w)
	if err != nil {
		return err
	}
	defer sess.Close()
	var gbs, cpu []float64
	for range *runs {
		c0 := l.waypoint.CPU()
		r, err := sess.Run(ctx, 1, 0)
		if err != nil {
			return err
		}
		if r.Failed > 0 {
			return r.FirstError
		}
		gbs = append(gbs, float64(size)/1e9/r.Elapsed.Seconds())
		cpu = append(cpu, (l.waypoint.CPU()-c0).Seconds()/(float64(size)/1e9))
	}
	fmt.Printf("\nbulk, one tunnel, %d MiB down: %.2f GB/s, CPU %.2f s/GB, RSS %.1f MiB\n", size>>20, measure.Median(gbs), measure.Median(cpu), measure.MiB(l.waypoint.RSS()))
	return nil
}

// profile runs the shapes in turn under the profiler.
func (l *lab) profile(ctx context.Context, file string, span time.Duration) error {
	got := make(chan error, 1)
	go func() { got <- l.waypoint.Profile(file, span) }()
	list := slices.DeleteFunc(slices.Clone(shapes), func(s shape) bool { return *only != "" && *only != s.name })
	if *only == "" || *only == "bulk" {
		list = append(list, shape{"bulk", 1, 1, 0})
	}
	for i := 0; ; i++ {
		s, path, n := list[i%len(list)], "/1024", 100_000
		if s.rate > 0 {
			n = 500
		}
		if s.name == "bulk" {
			path, n = "/33554432", 2
		}
		sess, err := load.Open(ctx, l.workload(s, path))
		if err != nil {
			return err
		}
		_, err = sess.Run(ctx, n, s.rate)
		sess.Close()
		if err != nil {
			return err
		}
		select {
		case err := <-got:
			return err
		default:
		}
	}
}
