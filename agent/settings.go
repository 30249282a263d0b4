package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Flags are the template's flags that mean something here.
type Flags struct {
	Role           string // "waypoint"
	Domain         string // --domain: <namespace>.svc.<cluster domain>
	ServiceCluster string // --serviceCluster: <account>.<namespace>
	LogLevel       string // --log_output_level: "default:info"
	LogJSON        bool   // --log_as_json
}

// Input is everything Parse looks at.
type Input struct {
	Flags   Flags
	Environ []string     // as os.Environ gives it
	Root    string       // where the pod's file system is; empty: "/"
	Addrs   []netip.Addr // of this machine's interfaces
	FIPS    bool         // Go's FIPS 140-3 module is in force
}

// Settings is what a waypoint under istiod runs with.
type Settings struct {
	Pod, Namespace, Account string
	IPs                     []netip.Addr // INSTANCE_IP first
	Gateway, Class          string       // the Gateway this waypoint runs for
	TrustDomain             string
	ClusterID, Network      string
	MeshID                  string
	Domain                  string // DNS domain of the cluster, "cluster.local"
	RootNamespace           string // where istiod runs

	Discovery Endpoint // delta ADS
	CA        Endpoint // certificates
	CertTTL   time.Duration
	Grace     Grace
	Signer    string // CertSigner of a CSR
	Identity  Identity
	RootCert  string // the mesh's mounted root, added to what the CA answers
	CRL       string // revocation list file, which need not be there yet

	Policies   string // directory of WaypointPolicies (WAYPOINT_POLICY_DIR); empty: none
	Drain      Drain
	Threads    int           // that run Go code; 0: as many as the CPU limit allows
	Curves     []tls.CurveID // nil: Go's choice
	LogLevel   string        // of admin.ParseLevel
	LogJSON    bool
	Node       Node
	Warnings   []string // to be logged once
	Annotation map[string]string
}

// Endpoint is one server of the control plane.
type Endpoint struct {
	Address    string // host:port
	ServerName string // what its certificate must be for; empty: the host
	RootFile   string // PEM, or "SYSTEM"
	TokenFile  string
	Plaintext  bool // port 15010: no TLS, no token
	Metadata   map[string]string
}

// Identity says where key and certificate come from; the first that is set.
type Identity struct {
	Socket           string // SPIFFE Workload API, a unix socket's path
	Cert, Key, Roots string // mounted files
	// Neither: the CA is asked.
}

// Grace says when a certificate is renewed: when Ratio of its life is left, give or
// take Jitter, so that replicas do not ask all at once.
type Grace struct{ Ratio, Jitter float64 }

// Drain says how the process ends.
type Drain struct {
	Delay   time.Duration // take new tunnels for so long after SIGTERM
	Timeout time.Duration // then let what is open end
}

// Paths of the template's mounts (manifests: files/waypoint.yaml).
const (
	rootCert       = "var/run/secrets/istio/root-cert.pem"
	tokenFile      = "var/run/secrets/tokens/istio-token"
	workloadSocket = "var/run/secrets/workload-spiffe-uds/socket"
	podInfo        = "etc/istio/pod"
)

// certDirs are where certificate files replace the CA, in pilot-agent's order.
var certDirs = []string{"var/run/secrets/workload-spiffe-credentials", "etc/certs"}

// crlFiles are where a revocation list may be mounted (ConfigMap istio-ca-crl).
var crlFiles = []string{"var/run/secrets/istio/crl/ca-crl.pem", "var/run/secrets/istio/ca-crl.pem"}

const (
	plaintextPort = ":15010" // istiod's port without TLS
	defaultTTL    = 24 * time.Hour
)

// ErrRole refuses the roles of pilot-agent that this is not.
var ErrRole = errors.New(`only the role "waypoint" is implemented: this image replaces waypoints, not sidecars or gateways`)

// Parse reads the environment and the mounted files.
func Parse(in Input) (*Settings, error) {
	if in.Flags.Role != "waypoint" {
		return nil, fmt.Errorf("proxy %q: %w", in.Flags.Role, ErrRole)
	}
	if in.Root == "" {
		in.Root = "/"
	}
	e := newEnv(in.Environ)
	s := &Settings{}
	pc, err := parseProxyConfig(e.get("PROXY_CONFIG"))
	if err != nil {
		return nil, err
	}
	for k, v := range pc.metadata() {
		e.fallback(k, v)
	}
	if err := s.compliance(e.get("COMPLIANCE_POLICY"), in.FIPS); err != nil {
		return nil, err
	}
	labels := s.podFile(filepath.Join(in.Root, podInfo, "labels"))
	s.Annotation = s.podFile(filepath.Join(in.Root, podInfo, "annotations"))

	s.Pod, s.Namespace, s.Policies = e.get("POD_NAME"), e.get("POD_NAMESPACE"), e.get("WAYPOINT_POLICY_DIR")
	if s.Pod == "" || s.Namespace == "" {
		return nil, errors.New("POD_NAME and POD_NAMESPACE are not set: `waypoint proxy` runs in the Deployment that istiod makes for a Gateway (use `waypoint run` elsewhere)")
	}
	if s.IPs, err = addresses(e.get("INSTANCE_IP"), in.Addrs); err != nil {
		return nil, err
	}
	s.Account = e.or("SERVICE_ACCOUNT", e.or("ISTIO_META_SERVICE_ACCOUNT", "default"))
	s.Gateway = labels["gateway.networking.k8s.io/gateway-name"]
	if s.Gateway == "" {
		s.Gateway = e.or("ISTIO_META_WORKLOAD_NAME", s.Account)
	}
	s.Class = labels["gateway.networking.k8s.io/gateway-class-name"]
	if s.Class == "" {
		s.Class = "istio-waypoint"
	}
	s.TrustDomain = e.or("TRUST_DOMAIN", "cluster.local")
	s.MeshID = e.or("ISTIO_META_MESH_ID", s.TrustDomain)
	s.ClusterID = e.or("ISTIO_META_CLUSTER_ID", "Kubernetes")
	s.Network = labels["topology.istio.io/network"]
	if s.Network == "" {
		s.Network = e.get("ISTIO_META_NETWORK")
	}
	dnsDomain := in.Flags.Domain
	if dnsDomain == "" {
		dnsDomain = s.Namespace + ".svc.cluster.local"
	}
	_, s.Domain, _ = strings.Cut(dnsDomain, ".svc.")
	if s.Domain == "" {
		s.Domain = "cluster.local"
	}
	s.servers(e, pc, in.Root)
	s.credentials(e, in.Root)
	s.drain(e, pc)
	s.Threads = pc.threads()
	for _, name := range pc.ignored() {
		s.warn("PROXY_CONFIG %s means nothing here and is ignored: %s", name, ignoredConfig[name])
	}
	s.logging(in.Flags)
	s.CertTTL = s.duration(e, "SECRET_TTL", defaultTTL)
	// pilot-agent's defaults (pkg/security): at half life, give or take a hundredth.
	s.Grace = Grace{s.ratio(e, "SECRET_GRACE_PERIOD_RATIO", 0.5), s.ratio(e, "SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01)}
	s.Signer = e.get("ISTIO_META_CERT_SIGNER")
	s.Node = s.node(e, pc, labels, in.Flags, dnsDomain)
	return s, nil
}

func (s *Settings) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}

// servers finds istiod and the CA.
func (s *Settings) servers(e env, pc proxyConfig, root string) {
	s.RootCert = filepath.Join(root, rootCert)
	token := filepath.Join(root, tokenFile)
	endpoint := func(addr, rootEnv, header string) Endpoint {
		ep := Endpoint{Address: addr, RootFile: filepath.Join(root, rootCert), TokenFile: token, Metadata: map[string]string{"ClusterID": s.ClusterID}}
		if v := e.get(rootEnv); v != "" {
			ep.RootFile = v
		}
		for k, v := range e.prefixed(header) {
			ep.Metadata[k] = v
		}
		if strings.HasSuffix(addr, plaintextPort) {
			ep.Plaintext = true
			s.warn("%s is istiod's port without TLS: configuration and certificates can be forged by anyone on the way", addr)
		}
		return ep
	}
	discovery := pc.text("discoveryAddress")
	if discovery == "" {
		discovery = "istiod.istio-system.svc:15012"
	}
	s.Discovery = endpoint(discovery, "XDS_ROOT_CA", "XDS_HEADER_")
	s.CA = endpoint(e.or("CA_ADDR", discovery), "CA_ROOT_CA", "CA_HEADER_")
	s.Discovery.ServerName = e.get("ISTIOD_SAN")
	if s.CA.Address == s.Discovery.Address {
		s.CA.ServerName = s.Discovery.ServerName
	}
	s.RootNamespace = "istio-system"
	// istiod.<namespace>.svc[...]; an address outside the cluster says nothing.
	if host, _, err := net.SplitHostPort(discovery); err == nil {
		if p := strings.Split(host, "."); len(p) >= 3 && p[2] == "svc" {
			s.RootNamespace = p[1]
		}
	}
}

// credentials finds what proves the identity.
func (s *Settings) credentials(e env, root string) {
	s.CRL = filepath.Join(root, crlFiles[0]) // it may be mounted later
	for _, f := range crlFiles {
		if isFile(filepath.Join(root, f)) {
			s.CRL = filepath.Join(root, f)
			break
		}
	}
	socket := filepath.Join(root, workloadSocket)
	if name := e.get("WORKLOAD_IDENTITY_SOCKET_FILE"); name != "" {
		// A file name beside the default one, never a path (pilot-agent refuses those).
		socket = filepath.Join(filepath.Dir(socket), filepath.Base(name))
	}
	if fi, err := os.Stat(socket); err == nil && fi.Mode()&os.ModeSocket != 0 {
		s.Identity = Identity{Socket: socket}
		return
	}
	for _, d := range certDirs {
		d = filepath.Join(root, d)
		i := Identity{Cert: filepath.Join(d, "cert-chain.pem"), Key: filepath.Join(d, "key.pem"), Roots: filepath.Join(d, "root-cert.pem")}
		if isFile(i.Cert) && isFile(i.Key) && isFile(i.Roots) {
			s.Identity = i
			return
		}
	}
}

// Ends of a drain. Istio's terminationDrainDuration is 5 s, after which Envoy is
// stopped whatever is open; the waypoint's template leaves Kubernetes' grace of 30 s, so
// by default what is open gets most of that. A duration that was set is kept.
const (
	drainDelay    = 5 * time.Second
	drainDefault  = 25 * time.Second
	drainForever  = 24 * time.Hour // EXIT_ON_ZERO_ACTIVE_CONNECTIONS: no end but the pod's
	minimumDrain  = 5 * time.Second
	stockDuration = "5s"
)

func (s *Settings) drain(e env, pc proxyConfig) {
	if e.bool("EXIT_ON_ZERO_ACTIVE_CONNECTIONS") {
		s.Drain = Drain{Delay: s.duration(e, "MINIMUM_DRAIN_DURATION", minimumDrain), Timeout: drainForever}
		return
	}
	total := drainDefault
	// TERMINATION_DRAIN_DURATION_SECONDS is the older way to say it.
	if v := e.get("TERMINATION_DRAIN_DURATION_SECONDS"); v != "" {
		total = s.parse("TERMINATION_DRAIN_DURATION_SECONDS", v+"s", total)
	} else if v := pc.text("terminationDrainDuration"); v != "" && v != stockDuration {
		total = s.parse("terminationDrainDuration", v, total)
	}
	// Half at most: connections told to go need time to.
	s.Drain.Delay = min(total/2, drainDelay)
	s.Drain.Timeout = total - s.Drain.Delay
}

func (s *Settings) duration(e env, key string, def time.Duration) time.Duration {
	v := e.get(key)
	if v == "" {
		return def
	}
	return s.parse(key, v, def)
}

func (s *Settings) parse(key, v string, def time.Duration) time.Duration {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		s.warn("%s %q is no duration; %v is used", key, v, def)
		return def
	}
	return d
}

// ratio reads a share of one.
func (s *Settings) ratio(e env, key string, def float64) float64 {
	v := e.get(key)
	if v == "" {
		return def
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= 0 && f <= 1) {
		s.warn("%s %q is not between 0 and 1; %v is used", key, v, def)
		return def
	}
	return f
}

// logging reads "scope:level,scope:level" or one level; the default scope counts.
func (s *Settings) logging(f Flags) {
	s.LogJSON, s.LogLevel = f.LogJSON, "info"
	for part := range strings.SplitSeq(f.LogLevel, ",") {
		scope, level, found := strings.Cut(strings.TrimSpace(part), ":")
		if !found {
			scope, level = "default", scope
		}
		if scope != "default" && scope != "all" {
			continue
		}
		switch level {
		case "debug", "info", "warn", "warning", "error":
			s.LogLevel = level
		case "none", "fatal":
			s.LogLevel = "off"
		case "":
		default:
			s.warn("--log_output_level %q is not known; info is used", f.LogLevel)
		}
	}
}

// compliance applies COMPLIANCE_POLICY or refuses to start.
func (s *Settings) compliance(policy string, fips bool) error {
	switch policy {
	case "":
		return nil
	case "fips-140-2":
		if !fips {
			return errors.New("COMPLIANCE_POLICY fips-140-2: this process does not run in FIPS mode (set GODEBUG=fips140=on, or use the image built with GOFIPS140)")
		}
		// Istio's policy allows P-256 only, with TLS 1.2; tunnels need TLS 1.3.
		s.Curves = []tls.CurveID{tls.CurveP256}
		return nil
	case "pqc":
		s.Curves = []tls.CurveID{tls.X25519MLKEM768}
		return nil
	}
	return fmt.Errorf("COMPLIANCE_POLICY %q is none that Istio defines: use fips-140-2 or pqc, or remove it", policy)
}

func addresses(instance string, machine []netip.Addr) ([]netip.Addr, error) {
	first, err := netip.ParseAddr(instance)
	if err != nil {
		return nil, fmt.Errorf("INSTANCE_IP %q is no address: istiod finds the waypoint's pod by it", instance)
	}
	first = first.Unmap()
	out := []netip.Addr{first}
	for _, a := range machine {
		// Another family only: the pod's second address. More of the first family
		// are bridges and the like.
		if a = a.Unmap(); a.IsGlobalUnicast() && a.Is4() != first.Is4() && len(out) == 1 && !first.IsLoopback() {
			out = append(out, a)
		}
	}
	return out, nil
}

func isFile(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.Mode().IsRegular()
}
