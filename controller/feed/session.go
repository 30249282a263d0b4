package feed

import (
	"context"
	"errors"
	"strconv"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/xds/objects"
)

// A response holds about so much, and the next one goes when it was acknowledged:
// that bounds what one slow waypoint costs, and lets the proxy decode one part while
// the next one travels.
const (
	maxBytes = 1 << 20
	maxCount = 4000
)

// session is one stream of a waypoint. It is go-control-plane's cache of that
// stream alone, so that its state ends with it.
type session struct {
	// Fixed after the stream was opened.
	server *Server
	caller account

	// Owned by the stream's goroutine.
	opened bool // the first request came

	// Guarded by the store's mu.
	owner    owner
	instance string
	has      map[string]string    // versions that the waypoint came with, until view is set
	view     *view                // nil until the store is synced
	pending  map[kube.Key]*object // changed since the last batch, with what the waypoint had; nil: nothing
	batch    []change             // being sent
	oldest   time.Time            // of the changes in flight; zero: not timed
	greeted  bool                 // a complete state was sent
	waiting  chan cache.DeltaResponse
	request  *discovery.DeltaDiscoveryRequest // that waits
}

// change is what became of one object; obj is nil if it is gone.
type change struct {
	name string
	obj  *object
}

var _ cache.Cache = (*session)(nil)

var errOnlyDelta = errors.New("feed: only delta streams are served")

// CreateWatch implements cache.Cache.
func (*session) CreateWatch(*cache.Request, cache.Subscription, chan cache.Response) (func(), error) {
	return nil, errOnlyDelta
}

// Fetch implements cache.Cache.
func (*session) Fetch(context.Context, *cache.Request) (cache.Response, error) {
	return nil, errOnlyDelta
}

// CreateDeltaWatch implements cache.Cache: it takes each request of the stream, the
// first one with what the waypoint has, the others as answers to responses.
func (x *session) CreateDeltaWatch(req *cache.DeltaRequest, sub cache.Subscription, ch chan cache.DeltaResponse) (func(), error) {
	if req.GetTypeUrl() != objects.TypeURL {
		return nil, status.Errorf(codes.InvalidArgument, "%q is not served here, only %s", req.GetTypeUrl(), objects.TypeURL)
	}
	s := x.server.store
	if !x.opened {
		gw, instance, err := objects.ParseNode(req.GetNode())
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		if err := x.server.allow(gw, x.caller); err != nil {
			return nil, err
		}
		x.opened = true
		s.mu.Lock()
		defer s.mu.Unlock()
		x.owner, x.instance, x.has = owner{gw.Namespace, gw.Name}, instance, sub.ReturnedResources()
		s.early[x] = struct{}{}
	} else {
		s.mu.Lock()
		defer s.mu.Unlock()
		x.answered(req)
	}
	x.waiting, x.request = ch, req
	x.push()
	return x.cancel, nil
}

func (x *session) cancel() {
	x.server.store.mu.Lock()
	defer x.server.store.mu.Unlock()
	x.waiting, x.request = nil, nil
}

// attach joins the stream to its view and finds what differs from what the
// waypoint has: only when the store is synced, as what is not read yet would look
// deleted.
func (x *session) attach(s *Store) {
	v, has := s.view(x.owner), x.has
	x.view, x.has, x.pending = v, nil, map[kube.Key]*object{}
	delete(s.early, x)
	v.sessions[x] = struct{}{}
	known := 0
	for sl := range v.members {
		version, ok := has[sl.name]
		if ok {
			known++
		}
		if !ok || version != sl.obj.version {
			x.batch = append(x.batch, change{sl.name, sl.obj})
		}
	}
	if known == len(has) {
		return
	}
	names := make(map[string]bool, len(v.members))
	for sl := range v.members {
		names[sl.name] = true
	}
	for name := range has {
		if !names[name] && name != objects.Complete {
			x.batch = append(x.batch, change{name: name})
		}
	}
}

// detach ends the stream.
func (x *session) detach() {
	s := x.server.store
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.early, x)
	if x.view != nil {
		delete(x.view.sessions, x)
		s.release(x.view)
	}
}

// answered takes what the waypoint says of a response.
func (x *session) answered(req *discovery.DeltaDiscoveryRequest) {
	m := &x.server.metrics
	if e := req.GetErrorDetail(); e != nil {
		m.refused.Inc()
		x.server.log.Warn("a waypoint refused objects; their last good version serves there", "gateway", x.owner.namespace+"/"+x.owner.name, "instance", x.instance, "error", e.GetMessage())
	}
	if !x.oldest.IsZero() && len(x.batch) == 0 {
		m.latency.Observe(time.Since(x.oldest).Seconds())
		x.oldest = time.Time{}
	}
}

// push answers the request that waits, if there is anything to say. mu is held.
func (x *session) push() {
	s := x.server.store
	if x.waiting == nil || !s.synced {
		return
	}
	if x.view == nil {
		x.attach(s)
	}
	if len(x.batch) == 0 && x.greeted {
		x.gather(s)
		if len(x.batch) == 0 {
			return
		}
	}
	out := &discovery.DeltaDiscoveryResponse{TypeUrl: objects.TypeURL}
	size, n := 0, 0
	for n < len(x.batch) && n < maxCount && size < maxBytes {
		c := &x.batch[n]
		n++
		size += len(c.name)
		if c.obj == nil {
			out.RemovedResources = append(out.RemovedResources, c.name)
			continue
		}
		size += len(c.obj.payload)
		out.Resources = append(out.Resources, &discovery.Resource{
			Name: c.name, Version: c.obj.version, Resource: &anypb.Any{TypeUrl: objects.TypeURL, Value: c.obj.payload},
		})
	}
	rest := x.batch[n:]
	if len(rest) == 0 {
		s.round++
		rest = nil
		out.SystemVersionInfo = strconv.FormatUint(s.round, 10)
		out.Resources = append(out.Resources, &discovery.Resource{
			Name: objects.Complete, Version: out.SystemVersionInfo, Resource: &anypb.Any{TypeUrl: objects.TypeURL},
		})
	}
	// An empty map of what was returned: the session knows better.
	r := &cache.DeltaPassthroughResponse{DeltaRequest: x.request, DeltaDiscoveryResponse: out, NextVersionMap: map[string]string{}}
	select {
	case x.waiting <- r: // has room for more than one stream may have in flight
	default:
		return
	}
	x.batch = rest
	if rest == nil {
		x.greeted = true
	}
	x.waiting, x.request = nil, nil
	x.server.metrics.responses.Inc()
	x.server.metrics.sent.Add(float64(size))
}

// gather makes a batch of what changed: the versions of this moment, so that the
// waypoint gets a state that was, however many responses it takes.
func (x *session) gather(s *Store) {
	for k, had := range x.pending {
		var now *object
		sl := s.slots[k]
		if sl != nil && x.view.members[sl] != nil {
			now = sl.obj
		}
		if now == had {
			continue
		}
		x.batch = append(x.batch, change{objects.Name(k.Kind, k.Namespace, k.Name), now})
		if now != nil && (x.oldest.IsZero() || now.at.Before(x.oldest)) {
			x.oldest = now.at
		}
	}
	if clear(x.pending); len(x.batch) > maxCount {
		x.pending = map[kube.Key]*object{} // a map keeps the size it once had
	}
}
