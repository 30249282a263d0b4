package feed

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	xdsserver "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"waypoint.dev/waypoint/config"
)

// Options of a Server; Verify is required unless every caller has a certificate.
type Options struct {
	// Verify checks a service account's token and returns whose it is. It is asked
	// once a stream.
	Verify func(ctx context.Context, token string) (namespace, serviceAccount string, err error)

	// TrustDomains are those of the callers' certificates; nil: cluster.local.
	TrustDomains []string

	// Account returns the service account that the waypoints of a Gateway run as;
	// nil: that of the Gateway's name, in its namespace, as the provisioner makes it.
	Account func(gw config.Owner) (serviceAccount string)

	// MaxStreams bounds the streams, 0: 10000. More are refused.
	MaxStreams int

	// MaxAge ends a stream after about so long, so that its caller proves itself
	// again; 0: 30 minutes, as istiod's. The next stream carries only what changed.
	MaxAge time.Duration

	Log *slog.Logger // nil: none
}

// Server sends objects to waypoints. It is a prometheus.Collector.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer

	// Fixed after New.
	opts    Options
	store   *Store
	log     *slog.Logger
	metrics metrics

	streams atomic.Int64
}

// New returns a server of the store's objects.
func New(store *Store, o Options) *Server {
	o.MaxStreams = cmp.Or(o.MaxStreams, 10000)
	o.MaxAge = cmp.Or(o.MaxAge, 30*time.Minute)
	if o.TrustDomains == nil {
		o.TrustDomains = []string{"cluster.local"}
	}
	s := &Server{store: store, opts: o, log: o.Log, metrics: newMetrics()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// Register adds the service to g, whose credentials must be TLS.
func (s *Server) Register(g *grpc.Server) {
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
}

// ServerOptions are those that a grpc.Server for this service needs beside its
// credentials. A first request names all that a waypoint has, some 64 bytes an
// object; waypoints ping every 30 s.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.WaitForHandlers(true), // Stop returns once no stream is served any more
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 15 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.InitialWindowSize(1 << 20), grpc.InitialConnWindowSize(1 << 20),
	}
}

// DeltaAggregatedResources implements discovery.AggregatedDiscoveryServiceServer.
func (s *Server) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	defer s.streams.Add(-1)
	if s.streams.Add(1) > int64(s.opts.MaxStreams) {
		return status.Error(codes.ResourceExhausted, "too many streams")
	}
	// Nothing is read of a caller that nobody knows.
	who, err := s.authenticate(stream.Context())
	if err != nil {
		s.metrics.denied.Inc()
		s.log.Warn("a caller was refused", "peer", addressOf(stream.Context()), "error", err)
		return err
	}
	age := s.opts.MaxAge - time.Duration(rand.Int64N(int64(s.opts.MaxAge/10)+1))
	ctx, cancel := context.WithTimeout(stream.Context(), age)
	defer cancel()
	x := &session{server: s, caller: who}
	defer x.detach()
	return xdsserver.NewServer(ctx, x, nil).DeltaAggregatedResources(stream)
}

// account is who calls.
type account struct{ namespace, name string }

// authenticate finds out who calls: by the token, else by a verified certificate
// with a SPIFFE identity.
func (s *Server) authenticate(ctx context.Context) (account, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if h := md.Get("authorization"); len(h) > 0 && s.opts.Verify != nil {
		token, ok := strings.CutPrefix(h[0], "Bearer ")
		if !ok || token == "" {
			return account{}, status.Error(codes.Unauthenticated, "the authorization is no bearer token")
		}
		ns, name, err := s.opts.Verify(ctx, token)
		if err != nil {
			if st, ok := status.FromError(err); ok {
				return account{}, st.Err()
			}
			return account{}, status.Errorf(codes.Unauthenticated, "the token is not accepted: %v", err)
		}
		if ns == "" || name == "" {
			return account{}, status.Error(codes.Unauthenticated, "the token is of no service account")
		}
		return account{ns, name}, nil
	}
	if a, ok := s.certified(ctx); ok {
		return a, nil
	}
	return account{}, status.Error(codes.Unauthenticated, "a service account token or a certificate of the mesh is needed")
}

// certified returns the service account of the client's certificate, if TLS
// verified one and it is of the mesh.
func (s *Server) certified(ctx context.Context) (account, bool) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return account{}, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return account{}, false
	}
	uris := info.State.VerifiedChains[0][0].URIs
	if len(uris) != 1 || uris[0].Scheme != "spiffe" || !slices.Contains(s.opts.TrustDomains, uris[0].Host) {
		return account{}, false
	}
	f := strings.Split(uris[0].Path, "/")
	if len(f) != 5 || f[0] != "" || f[1] != "ns" || f[3] != "sa" || f[2] == "" || f[4] == "" {
		return account{}, false
	}
	return account{f[2], f[4]}, true
}

// allow says whether a caller may have what concerns a Gateway: only what runs as
// the Gateway's service account.
func (s *Server) allow(gw config.Owner, who account) error {
	name := gw.Name
	if s.opts.Account != nil {
		name = s.opts.Account(gw)
	}
	if who.namespace == gw.Namespace && who.name == name && name != "" {
		return nil
	}
	s.metrics.denied.Inc()
	s.log.Warn("a caller asked for another's objects", "gateway", gw.Namespace+"/"+gw.Name, "account", who.namespace+"/"+who.name)
	return status.Errorf(codes.PermissionDenied, "service account %s/%s does not run Gateway %s/%s", who.namespace, who.name, gw.Namespace, gw.Name)
}

func addressOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}
