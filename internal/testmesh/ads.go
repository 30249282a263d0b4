package testmesh

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	pb "istio.io/api/security/v1alpha1"

	"waypoint.dev/waypoint/config/istiod"
)

type caServer struct {
	pb.UnimplementedIstioCertificateServiceServer
	s *Istiod
}

// CreateCertificate signs for the account of the token, whatever the CSR asks.
func (c *caServer) CreateCertificate(ctx context.Context, r *pb.IstioCertificateRequest) (*pb.IstioCertificateResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	a, err := c.s.account(md)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(r.Csr))
	if block == nil {
		return nil, grpcstatus.Error(codes.InvalidArgument, "no CSR")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, grpcstatus.Error(codes.InvalidArgument, err.Error())
	}
	c.s.mu.Lock()
	ttl := c.s.ttl
	c.s.issued++
	c.s.mu.Unlock()
	der, err := c.s.ca.Sign(csr.PublicKey, a.Namespace, a.Name, ttl)
	if err != nil {
		return nil, grpcstatus.Error(codes.Internal, err.Error())
	}
	return &pb.IstioCertificateResponse{CertChain: []string{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(c.s.ca.Bundle().PEM),
	}}, nil
}

type adsServer struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	s *Istiod
}

// adsStream is one stream; its maps are guarded by Istiod.mu.
type adsStream struct {
	s      *Istiod
	out    chan *discovery.DeltaDiscoveryResponse
	cancel context.CancelFunc
	all    map[string]bool            // types subscribed to as a whole
	names  map[string]map[string]bool // names subscribed to by type
	nonces map[string]string          // by nonce: its type
	count  int
}

func (st *adsStream) end() { st.cancel() }

// queue bounds what a stream that does not read may have waiting: far more than
// a test pushes.
const queue = 1 << 16

// DeltaAggregatedResources implements delta ADS.
func (a *adsServer) DeltaAggregatedResources(g discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	md, _ := metadata.FromIncomingContext(g.Context())
	acct, err := a.s.account(md)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(g.Context())
	defer cancel()
	st := &adsStream{s: a.s, out: make(chan *discovery.DeltaDiscoveryResponse, queue), cancel: cancel,
		all: map[string]bool{}, names: map[string]map[string]bool{}, nonces: map[string]string{}}
	a.s.mu.Lock()
	a.s.streams[st] = struct{}{}
	a.s.mu.Unlock()
	defer func() {
		a.s.mu.Lock()
		delete(a.s.streams, st)
		a.s.mu.Unlock()
	}()
	failed := make(chan error, 1)
	go func() { failed <- st.receive(g, acct) }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case m := <-st.out:
			if err := g.Send(m); err != nil {
				return err
			}
		}
	}
}

func (st *adsStream) receive(g discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, acct Account) error {
	for first := true; ; first = false {
		r, err := g.Recv()
		if err != nil {
			return nil // the client went
		}
		if first {
			if err := st.admit(r.Node, acct); err != nil {
				return err
			}
		}
		if err := st.request(r); err != nil {
			return err
		}
	}
}

// admit holds the node to its token, as istiod does (ENABLE_XDS_IDENTITY_CHECK).
func (st *adsStream) admit(n *corev3.Node, acct Account) error {
	f := n.GetMetadata().GetFields()
	if f["NAMESPACE"].GetStringValue() != acct.Namespace || f["SERVICE_ACCOUNT"].GetStringValue() != acct.Name {
		return grpcstatus.Errorf(codes.PermissionDenied, "node %q is not %s/%s", n.GetId(), acct.Namespace, acct.Name)
	}
	if f["PROXY_CONFIG"].GetStructValue() == nil {
		return grpcstatus.Error(codes.InvalidArgument, "no PROXY_CONFIG in the node's metadata")
	}
	st.s.mu.Lock()
	st.s.nodes = append(st.s.nodes, n)
	st.s.mu.Unlock()
	return nil
}

func (st *adsStream) request(r *discovery.DeltaDiscoveryRequest) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	url := r.TypeUrl
	if r.ResponseNonce != "" {
		if st.nonces[r.ResponseNonce] != url {
			return grpcstatus.Errorf(codes.InvalidArgument, "nonce %q was not sent for %s", r.ResponseNonce, url)
		}
		if r.ErrorDetail != nil {
			st.s.refusals = append(st.s.refusals, Refusal{url, r.ErrorDetail.Message})
		} else {
			st.s.acks[url]++
		}
	}
	_, known := st.names[url]
	if !known && !st.all[url] && len(r.ResourceNamesSubscribe) == 0 && r.ResponseNonce == "" {
		st.all[url] = true
		st.send(url, slices.Sorted(maps.Keys(st.s.resources[url])), nil)
		return nil
	}
	if len(r.ResourceNamesSubscribe)+len(r.ResourceNamesUnsubscribe) == 0 {
		return nil
	}
	if !known {
		st.names[url] = map[string]bool{}
	}
	for _, n := range r.ResourceNamesSubscribe {
		st.names[url][n] = true
	}
	for _, n := range r.ResourceNamesUnsubscribe {
		delete(st.names[url], n)
	}
	var missing []string
	for _, n := range r.ResourceNamesSubscribe {
		if st.s.resources[url][n] == nil {
			missing = append(missing, n)
		}
	}
	if url == istiod.ExtensionType {
		missing = nil // istiod says nothing of extensions it does not have
	}
	if len(r.ResourceNamesSubscribe) > 0 {
		st.send(url, r.ResourceNamesSubscribe, missing)
	}
	return nil
}

// send queues a response with what of changed and removed the stream subscribes
// to; Istiod.mu is held.
func (st *adsStream) send(url string, changed, removed []string) {
	m := &discovery.DeltaDiscoveryResponse{TypeUrl: url, SystemVersionInfo: fmt.Sprint(st.s.serial),
		ControlPlane: &corev3.ControlPlane{Identifier: fmt.Sprintf(`{"Component":"istiod","ID":"istiod-fake","Info":{"version":%q}}`, st.s.version)}}
	wants := func(n string) bool { return st.all[url] || st.names[url][n] }
	for _, n := range changed {
		if res := st.s.resources[url][n]; res != nil && wants(n) {
			m.Resources = append(m.Resources, res)
		}
	}
	for _, n := range removed {
		if wants(n) {
			m.RemovedResources = append(m.RemovedResources, n)
		}
	}
	if !st.all[url] && len(m.Resources)+len(m.RemovedResources) == 0 {
		return
	}
	st.count++
	m.Nonce = fmt.Sprintf("n%d", st.count)
	st.nonces[m.Nonce] = url
	select {
	case st.out <- m:
	default:
		st.cancel() // as istiod drops a client that does not read
	}
}
