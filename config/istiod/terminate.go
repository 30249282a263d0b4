package istiod

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
)

// Tunnels is what connect_terminate says of the server of tunnels. The zero value
// says nothing.
type Tunnels struct {
	MaxStreams       uint32 // per connection
	StreamWindow     uint32 // bytes
	ConnectionWindow uint32 // bytes
	PingInterval     time.Duration
	PingTimeout      time.Duration
	ForwardCert      string // forward_client_cert_details, as Envoy names it
	Logs             []config.AccessLog
}

// Tunnels returns what connect_terminate says; ok is false before it was sent.
func (w *World) Tunnels() (t Tunnels, ok bool) {
	if w.terminate == nil {
		return t, false
	}
	return w.terminate.tunnels, true
}

// terminate is a decoded connect_terminate.
type terminate struct {
	tunnels  Tunnels
	domains  []string         // trust domains of peers: the mesh's, its aliases, those of further roots
	policies [][]authz.Policy // of every tunnel, each list must let it pass
	broken   string           // why no tunnel may pass
	problems []config.Problem
}

// decodeTerminate reads connect_terminate. Its policies guard all destinations, so
// a filter that is not understood closes them all.
func decodeTerminate(b []byte, w *World) (*terminate, error) {
	var l listenerv3.Listener
	if err := proto.Unmarshal(b, &l); err != nil {
		return nil, err
	}
	out := &terminate{}
	t := &translator{p: &program{name: connectTerminate}, intern: newInterner(), ext: w.extension}
	found := false
	for _, fc := range l.GetFilterChains() {
		if err := out.peers(fc.GetTransportSocket()); err != nil {
			t.fail("connect_terminate: transport_socket: %v", err)
		}
		for _, f := range fc.GetFilters() {
			var h hcmv3.HttpConnectionManager
			if err := unpack(f.GetTypedConfig(), &h); err != nil {
				t.fail("connect_terminate: network filter %s: %v", f.GetName(), err)
				continue
			}
			if found {
				continue
			}
			found = true
			out.tunnels = readTunnels(&h)
			out.filters(t, &h)
			if tel := t.intern.telemetry(t, h.GetAccessLog(), nil); tel != nil {
				out.tunnels.Logs = tel.Logs
			}
		}
	}
	if !found {
		return nil, errString("has no http_connection_manager")
	}
	out.broken = t.p.broken
	for _, p := range t.p.problems {
		p.Kind, p.Source = "Listener", connectTerminate
		out.problems = append(out.problems, p)
	}
	return out, nil
}

// peers reads who may connect: istiod names the trust domains as prefixes of the URI
// in a peer's certificate (PILOT_SKIP_VALIDATE_TRUST_DOMAIN leaves them out, and then
// the waypoint's own domain counts).
func (out *terminate) peers(ts *corev3.TransportSocket) error {
	if ts == nil {
		return nil
	}
	var c tlsv3.DownstreamTlsContext
	if err := unpack(ts.GetTypedConfig(), &c); err != nil {
		return err
	}
	common := c.GetCommonTlsContext()
	v := common.GetValidationContext()
	if comb := common.GetCombinedValidationContext(); comb != nil {
		v = comb.GetDefaultValidationContext()
	}
	for _, m := range v.GetMatchTypedSubjectAltNames() {
		domain, ok := strings.CutPrefix(m.GetMatcher().GetPrefix(), "spiffe://")
		domain, slash := strings.CutSuffix(domain, "/")
		if m.GetSanType() != tlsv3.SubjectAltNameMatcher_URI || !ok || !slash || domain == "" || strings.Contains(domain, "/") || m.GetMatcher().GetIgnoreCase() {
			return errString("a subject alternative name other than the prefix of a trust domain is not supported")
		}
		if !slices.Contains(out.domains, domain) {
			out.domains = append(out.domains, domain)
		}
	}
	if len(v.GetMatchSubjectAltNames()) > 0 {
		return errString("match_subject_alt_names are not supported")
	}
	return nil
}

// aliases are the trust domains of peers beside the mesh's own.
func (out *terminate) aliases(own string, more []string) []string {
	all := slices.Clone(more)
	if out != nil {
		for _, d := range out.domains {
			if d != own && !slices.Contains(all, d) {
				all = append(all, d)
			}
		}
	}
	return all
}

func readTunnels(h *hcmv3.HttpConnectionManager) Tunnels {
	o := h.GetHttp2ProtocolOptions()
	return Tunnels{
		MaxStreams:       o.GetMaxConcurrentStreams().GetValue(),
		StreamWindow:     o.GetInitialStreamWindowSize().GetValue(),
		ConnectionWindow: o.GetInitialConnectionWindowSize().GetValue(),
		PingInterval:     duration(o.GetConnectionKeepalive().GetInterval()),
		PingTimeout:      duration(o.GetConnectionKeepalive().GetTimeout()),
		ForwardCert:      h.GetForwardClientCertDetails().String(),
	}
}

// filters reads the policies of tunnels. What else istiod puts here says who the
// client is, which the tunnel itself tells.
func (out *terminate) filters(t *translator, h *hcmv3.HttpConnectionManager) {
	for _, f := range h.GetHttpFilters() {
		cfg, kind, ok := t.resolve(f)
		switch {
		case !ok:
			t.fail("connect_terminate: filter %s: its extension configuration was not sent", f.GetName())
		case kind == httpFilters+"rbac.v3.RBAC":
			ps, err := readRBAC(t, cfg)
			if err != nil {
				t.fail("connect_terminate: filter %s (RBAC): %v", f.GetName(), err)
			} else if len(ps) > 0 {
				out.policies = append(out.policies, ps)
			}
		case harmless(kind) || kind == httpFilters+"set_filter_state.v3.Config" || kind == httpFilters+"router.v3.Router":
		default:
			t.fail("connect_terminate: filter %s (%s): %v", f.GetName(), shortType(kind), errUnknownFilter)
		}
	}
}

func readRBAC(t *translator, cfg *anyMessage) ([]authz.Policy, error) {
	var c rbacv3.RBAC
	if err := unpack(cfg, &c); err != nil {
		return nil, err
	}
	if c.GetMatcher() != nil || c.GetShadowMatcher() != nil {
		return nil, fmt.Errorf("matcher trees are not supported")
	}
	return t.rbacPolicies(c.GetRules(), c.GetShadowRules(), c.GetShadowRulesStatPrefix())
}

// guard joins all lists into one that lets a connection pass only if each does.
func (out *terminate) guard() []authz.Policy {
	if out == nil {
		return nil
	}
	var all []authz.Policy
	for _, ps := range out.policies {
		all = both(all, ps)
	}
	return all
}
