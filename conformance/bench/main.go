// Command bench measures the waypoint process alone: CPU, allocations and memory
// a request, of the real binary, between an HBONE client and an HBONE backend
// that run in processes of their own.
//
//	go run ./bench -waypoint ../bin/waypoint [-requests 100000] [-quick]
//
// CPU is utime+stime of /proc/PID/stat over the requests of one run, so what
// other processes do changes it little; report ratios and the spread all the same.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"

	"waypoint.dev/waypoint/conformance/load"
	"waypoint.dev/waypoint/identity"
)

var (
	binary   = flag.String("waypoint", "bin/waypoint", "the waypoint binary")
	requests = flag.Int("requests", 40000, "requests of one run")
	runs     = flag.Int("runs", 5, "runs of each shape; the median is printed")
	quick    = flag.Bool("quick", false, "fewer and shorter runs")
	only     = flag.String("only", "", "the one shape to run, as printed; bulk is one too")
	backend  = flag.String("backend", "", "internal: serve as the backend with the identity in this directory")
	pod      = flag.String("pod", "", "internal: the address of that backend")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *backend != "" {
		err = serveBackend(ctx, *backend)
	} else {
		err = bench(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// serveBackend is the second process: a pod that answers inside its tunnels.
func serveBackend(ctx context.Context, dir string) error {
	src, err := identity.FromFiles(dir+"/cert.pem", dir+"/key.pem", dir+"/roots.pem", []string{trustDomain}, nil)
	if err != nil {
		return err
	}
	b, err := load.NewBackend(netip.MustParseAddrPort(*pod+":15008"), src)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	b.Close()
	return nil
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
	idle := l.waypoint.rss()
	fmt.Printf("%s, %d cores, %s\nwaypoint idle: RSS %.1f MiB\n\n", runtime.Version(), runtime.NumCPU(), cpuModel(), mib(idle))
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
	return load.Workload{Waypoint: l.waypoint.hbone, Client: l.client, Authority: vip, Conns: s.conns, Streams: s.streams,
		Request: []byte("GET " + path + " HTTP/1.1\r\nhost: echo.bench.svc.cluster.local\r\nuser-agent: load\r\nx-request-id: 6f1c2a5e-0b1d-4f6e-9d3a-0123456789ab\r\n\r\n")}
}

func (l *lab) measure(ctx context.Context, s shape) error {
	sess, err := load.Open(ctx, l.workload(s, "/1024"))
	if err != nil {
		return err
	}
	defer sess.Close()
	n := *requests
	if s.rate > 0 {
		n = int(s.rate * 8)
	}
	if _, err := sess.Run(ctx, n/4, s.rate); err != nil { // warm up
		return err
	}
	var cpu, rate, mallocs, reads, writes []float64
	var last *load.Result
	for range *runs {
		m0 := l.waypoint.mallocs()
		c0 := l.waypoint.cpu()
		r0, w0 := l.waypoint.calls()
		r, err := sess.Run(ctx, n, s.rate)
		if err != nil {
			return err
		}
		r1, w1 := l.waypoint.calls()
		c1 := l.waypoint.cpu()
		m1 := l.waypoint.mallocs()
		if r.Failed > 0 {
			return fmt.Errorf("%d of %d requests failed: %w", r.Failed, r.Requests, r.FirstError)
		}
		cpu = append(cpu, float64((c1-c0).Microseconds())/float64(r.Requests))
		mallocs = append(mallocs, float64(m1-m0)/float64(r.Requests))
		reads = append(reads, float64(r1-r0)/float64(r.Requests))
		writes = append(writes, float64(w1-w0)/float64(r.Requests))
		rate = append(rate, r.PerSecond())
		last = r
	}
	slices.Sort(cpu)
	fmt.Printf("%-16s %10.0f %22s %12.3f %12s %9v %9v %8.1f\n", s.name, median(rate),
		fmt.Sprintf("%.1f (%.1f-%.1f)", median(cpu), cpu[0], cpu[len(cpu)-1]), median(mallocs), fmt.Sprintf("%.2f+%.2f", median(reads), median(writes)),
		last.Quantile(.5).Round(time.Microsecond), last.Quantile(.99).Round(time.Microsecond), mib(l.waypoint.rss()))
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
		c0 := l.waypoint.cpu()
		r, err := sess.Run(ctx, 1, 0)
		if err != nil {
			return err
		}
		if r.Failed > 0 {
			return r.FirstError
		}
		gbs = append(gbs, float64(size)/1e9/r.Elapsed.Seconds())
		cpu = append(cpu, (l.waypoint.cpu()-c0).Seconds()/(float64(size)/1e9))
	}
	fmt.Printf("\nbulk, one tunnel, %d MiB down: %.2f GB/s, CPU %.2f s/GB, RSS %.1f MiB\n", size>>20, median(gbs), median(cpu), mib(l.waypoint.rss()))
	return nil
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

func mib(b int64) float64 { return float64(b) / (1 << 20) }

func self() (string, error) { return os.Executable() }
