package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"

	"waypoint.dev/waypoint/conformance/lab/cluster"
)

const (
	suffix = ".svc.cluster.local."
	// ttl is CoreDNS' for the cluster's own names.
	ttl = 5
)

// Server answers queries until it is closed.
type Server struct {
	view *cluster.View
	conn net.PacketConn
	wg   sync.WaitGroup
}

// Serve listens on addr.
func Serve(view *cluster.View, addr string) (*Server, error) {
	c, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	s := &Server{view: view, conn: c}
	s.wg.Go(s.run)
	return s, nil
}

// Close stops the server.
func (s *Server) Close() {
	_ = s.conn.Close()
	s.wg.Wait()
}

func (s *Server) run() {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if answer, err := s.answer(buf[:n]); err == nil {
			_, _ = s.conn.WriteTo(answer, from)
		}
	}
}

func (s *Server) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	addrs, exists := s.lookup(strings.ToLower(q.Name.String()))
	h.Response, h.Authoritative, h.RecursionAvailable = true, true, true
	h.RCode = dnsmessage.RCodeSuccess
	if !exists {
		h.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, h)
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	if q.Type == dnsmessage.TypeA {
		for _, a := range addrs {
			rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}
			if err := b.AResource(rh, dnsmessage.AResource{A: a.As4()}); err != nil {
				return nil, err
			}
		}
	}
	return b.Finish()
}

// lookup resolves service.namespace.svc.cluster.local.
func (s *Server) lookup(name string) (addrs []netip.Addr, exists bool) {
	base, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return nil, false
	}
	parts := strings.Split(base, ".")
	if len(parts) != 2 {
		return nil, false
	}
	svc := s.view.ServiceNamed(parts[1], parts[0])
	if svc == nil {
		return nil, false
	}
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		if ip, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil && ip.Is4() {
			addrs = append(addrs, ip)
		}
		return addrs, true
	}
	seen := map[netip.Addr]bool{}
	for _, p := range svc.Spec.Ports {
		for _, e := range s.view.Endpoints(svc, uint16(p.Port)) {
			if !seen[e.Addr()] {
				seen[e.Addr()] = true
				addrs = append(addrs, e.Addr())
			}
		}
	}
	return addrs, true
}
