package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// eager is how often a container that is not ready yet is asked, so that a lab does not
// wait for a probe's period.
const eager = 50 * time.Millisecond

// probe starts what the container's probes ask for. Without a readiness probe it is ready
// as soon as its first port takes connections: nothing of a lab should race its servers.
func (c *container) probe(ctx context.Context, wg *sync.WaitGroup, p *sandbox.Process) {
	wg.Go(func() {
		if s := c.spec.StartupProbe; s != nil && !c.startup(ctx, p, s) {
			return
		}
		if s := c.spec.LivenessProbe; s != nil {
			wg.Go(func() { c.liveness(ctx, p, s) })
		}
		if s := c.spec.ReadinessProbe; s != nil {
			c.readiness(ctx, s, func() error { return c.check(ctx, s) })
		} else {
			c.listening(ctx)
		}
	})
}

// startup waits for the startup probe. It reports false when the container is to end.
func (c *container) startup(ctx context.Context, p *sandbox.Process, s *corev1.Probe) bool {
	limit := time.Now().Add(time.Duration(s.InitialDelaySeconds)*time.Second + period(s)*time.Duration(max(s.FailureThreshold, 1)))
	for c.check(ctx, s) != nil {
		if !sleep(ctx, eager) {
			return false
		}
		if time.Now().After(limit) {
			c.w.k.cfg.Log.Info("startup probe failed", "pod", c.w.name, "container", c.spec.Name)
			go p.Stop(time.Second)
			return false
		}
	}
	return true
}

func (c *container) setReady(is bool) {
	if c.ready.Swap(is) != is {
		c.w.poke()
	}
}

// readiness follows a check by the probe's thresholds and period.
func (c *container) readiness(ctx context.Context, s *corev1.Probe, check func() error) {
	var good, bad int32
	for {
		if err := check(); err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		if ctx.Err() != nil {
			return
		}
		if good >= max(s.SuccessThreshold, 1) {
			c.setReady(true)
		} else if bad >= max(s.FailureThreshold, 1) {
			c.setReady(false)
		}
		wait := period(s)
		if !c.ready.Load() {
			wait = eager
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func (c *container) listening(ctx context.Context) {
	for _, p := range c.spec.Ports {
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}
		for dial(ctx, c.address(int(p.ContainerPort)), time.Second) != nil {
			if !sleep(ctx, eager) {
				return
			}
		}
		break
	}
	c.setReady(true)
}

func (c *container) liveness(ctx context.Context, p *sandbox.Process, s *corev1.Probe) {
	if !sleep(ctx, time.Duration(s.InitialDelaySeconds)*time.Second) {
		return
	}
	var bad int32
	for sleep(ctx, period(s)) {
		if c.check(ctx, s) == nil {
			bad = 0
			continue
		}
		if bad++; bad >= max(s.FailureThreshold, 1) && ctx.Err() == nil {
			c.w.k.cfg.Log.Info("liveness probe failed", "pod", c.w.name, "container", c.spec.Name)
			go p.Stop(time.Second)
			return
		}
	}
}

// check runs a probe once.
func (c *container) check(ctx context.Context, s *corev1.Probe) error {
	limit := time.Duration(max(s.TimeoutSeconds, 1)) * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch {
	case s.HTTPGet != nil:
		return c.get(ctx, s.HTTPGet)
	case s.TCPSocket != nil:
		port, err := c.port(s.TCPSocket.Port)
		if err != nil {
			return err
		}
		return dial(ctx, c.address(port), limit)
	case s.Exec != nil:
		code, err := c.exec(ctx, s.Exec.Command, sandbox.Streams{})
		if err == nil && code != 0 {
			err = fmt.Errorf("exit code %d", code)
		}
		return err
	}
	return errors.New("the kind of probe is not supported")
}

var prober = &http.Client{Transport: &http.Transport{
	DisableKeepAlives: true,
	TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as the kubelet does
}}

func (c *container) get(ctx context.Context, g *corev1.HTTPGetAction) error {
	port, err := c.port(g.Port)
	if err != nil {
		return err
	}
	scheme := "http"
	if g.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+c.address(port)+g.Path, nil)
	if err != nil {
		return err
	}
	for _, h := range g.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	res, err := prober.Do(req)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode >= 400 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

func (c *container) port(p intstr.IntOrString) (int, error) {
	if p.Type == intstr.Int {
		return p.IntValue(), nil
	}
	for _, x := range c.spec.Ports {
		if x.Name == p.StrVal {
			return int(x.ContainerPort), nil
		}
	}
	return 0, fmt.Errorf("there is no port %q", p.StrVal)
}

func (c *container) address(port int) string {
	return net.JoinHostPort(c.w.net.IP.String(), strconv.Itoa(port))
}

func dial(ctx context.Context, addr string, limit time.Duration) error {
	d := net.Dialer{Timeout: limit}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return nc.Close()
}

func period(s *corev1.Probe) time.Duration {
	if s.PeriodSeconds == 0 {
		return 10 * time.Second
	}
	return time.Duration(s.PeriodSeconds) * time.Second
}

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
