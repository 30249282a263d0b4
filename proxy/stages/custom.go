package stages

import (
	"context"
	"encoding/json"
	"net"
	"reflect"
	"sync"

	"golang.org/x/time/rate"

	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/originate"
)

// authorizer is the proxy.ExtAuthorizer of one stage.
type authorizer struct {
	stages    *Stages
	configs   []*extauthz.Config
	providers map[string]*provider // by name
}

// provider is one external authorizer, shared by all stages with the same
// settings. Its client is closed when no snapshot has it and no check is under
// way; a check by an old chain opens it again.
type provider struct {
	// fixed after it was made
	conf extauthz.Config
	dial extauthz.Dial
	log  rate.Sometimes
	age  int // guarded by Stages.mu: swaps since it was made

	mu      sync.Mutex
	client  *extauthz.Client // guarded by mu; nil: closed
	uses    int              // guarded by mu: checks under way
	retired bool             // guarded by mu
}

func (s *Stages) authorizer(cs []*extauthz.Config, prev any) (*authorizer, error) {
	if a, ok := prev.(*authorizer); ok && reflect.DeepEqual(a.configs, cs) {
		return a, nil
	}
	a := &authorizer{stages: s, configs: cs, providers: make(map[string]*provider, len(cs))}
	for _, c := range cs {
		p, err := s.provider(c)
		if err != nil {
			return nil, err
		}
		a.providers[c.Name] = p
	}
	return a, nil
}

func (s *Stages) provider(c *extauthz.Config) (*provider, error) {
	key, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.clients[string(key)]; p != nil {
		p.age = 0
		return p, nil
	}
	p := &provider{conf: *c, log: rate.Sometimes{First: 1, Interval: logEvery}}
	backend, protocols := c.Backend, originate.HTTP(c.GRPC != nil)
	p.dial = func(ctx context.Context) (net.Conn, error) { return s.mesh.dialBackend(ctx, backend, protocols) }
	if p.client, err = extauthz.New(p.conf, p.dial); err != nil {
		return nil, err
	}
	s.clients[string(key)] = p
	return p, nil
}

// acquire returns the client; release gives it back.
func (p *provider) acquire() (*extauthz.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == nil {
		c, err := extauthz.New(p.conf, p.dial)
		if err != nil {
			return nil, err
		}
		p.client = c
	}
	p.uses++
	return p.client, nil
}

func (p *provider) release() {
	p.mu.Lock()
	p.uses--
	p.closeIdle()
	p.mu.Unlock()
}

// retire closes the client behind its last check.
func (p *provider) retire() {
	p.mu.Lock()
	p.retired = true
	p.closeIdle()
	p.mu.Unlock()
}

func (p *provider) closeIdle() {
	if p.retired && p.uses == 0 && p.client != nil {
		p.client.Close()
		p.client = nil
	}
}

// Knows implements proxy.ExtAuthorizer.
func (a *authorizer) Knows(name string) bool { return a.providers[name] != nil }

// NeedsBody implements proxy.ExtAuthorizer.
func (a *authorizer) NeedsBody(name string) (limit int, partial bool) {
	p := a.providers[name]
	if p == nil || p.conf.Body == nil {
		return 0, false
	}
	return p.conf.Body.MaxBytes, p.conf.Body.Partial
}

// reasonFailedOpen is the reason in the record of a request that passed because
// its provider could not be asked and fails open.
const reasonFailedOpen = "custom_failed_open"

// Authorize implements proxy.ExtAuthorizer.
func (a *authorizer) Authorize(ctx context.Context, c *proxy.Check) proxy.Verdict {
	p := a.providers[c.Provider]
	if p == nil {
		return proxy.Verdict{}
	}
	cl, err := p.acquire()
	if err != nil {
		return proxy.Verdict{Details: "ext_authz_error"}
	}
	defer p.release()
	if c.Request == nil && !cl.TCP() {
		// Whatever failOpen says: this provider can never be asked.
		return proxy.Verdict{Details: "ext_authz_error"}
	}
	out := cl.Check(ctx, &extauthz.Input{
		Request: c.Request, Conn: c.Conn, RequestID: c.RequestID, Protocol: c.Protocol,
		Time: c.Time, Size: c.Size, Body: c.Body, Partial: c.Partial,
	})
	if out.Err != nil && ctx.Err() == nil {
		p.log.Do(func() {
			a.stages.log.Warn("external authorization failed", "provider", c.Provider, "fails_open", out.Pass(), "error", out.Err)
		})
	}
	if !out.Pass() {
		_, add := extauthz.Resolve(out.Headers, nil) // a new response has nothing to remove
		return proxy.Verdict{Status: out.Status, Body: out.Body, Fields: add, Details: out.Details}
	}
	v := proxy.Verdict{Allow: true, ClearRoute: out.ClearRoute}
	if out.Verdict == extauthz.FailedOpen {
		v.Reason = reasonFailedOpen
		return v
	}
	if c.Request == nil {
		return v
	}
	v.Remove, v.Add = extauthz.Resolve(out.Request, c.Request.Headers)
	if q, changed := out.Query(c.Request.Query); changed {
		v.Query, v.HasQuery, v.QueryChanged = q, q != "", true
	}
	v.Response = responseEdits(out.Response)
	return v
}

func responseEdits(in []extauthz.Edit) []proxy.Edit {
	var out []proxy.Edit
	for _, e := range in {
		op := proxy.EditAdd
		switch e.Op {
		case extauthz.Set:
			op = proxy.EditSet
		case extauthz.AddIfAbsent:
			op = proxy.EditAddIfAbsent
		case extauthz.SetIfExists:
			op = proxy.EditSetIfExists
		}
		out = append(out, proxy.Edit{Op: op, Name: e.Name, Value: e.Value})
	}
	return out
}
