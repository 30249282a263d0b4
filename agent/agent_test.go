package agent

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// template is the environment of Istio's waypoint template.
func template(more ...string) []string {
	return append([]string{
		"POD_NAME=waypoint-1", "POD_NAMESPACE=shop", "INSTANCE_IP=10.0.0.7", "SERVICE_ACCOUNT=wp",
		"CA_ADDR=istiod.istio-system.svc:15012", "ISTIO_META_CLUSTER_ID=c1", "ISTIO_META_NETWORK=n1", "ISTIO_META_NODE_NAME=node-1",
		"ISTIO_META_MESH_ID=mesh1", "TRUST_DOMAIN=td.example", "ISTIO_META_INTERCEPTION_MODE=REDIRECT",
		`PROXY_CONFIG={"discoveryAddress":"istiod-blue.mesh.svc:15012","proxyMetadata":{"ISTIO_META_IDLE_TIMEOUT":"5s"},"tracing":{"sampling":7}}`,
	}, more...)
}

func parse(t *testing.T, root string, f Flags, environ []string) *Settings {
	t.Helper()
	f.Role = "waypoint"
	s, err := Parse(Input{Flags: f, Environ: environ, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, root, name, data string) {
	t.Helper()
	name = filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTemplate(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/istio/pod/labels", "gateway.networking.k8s.io/gateway-name=\"gw\"\nistio-locality=\"r1.z1.s1\"\nx=\"a\\\"b\"\n")
	write(t, root, "etc/istio/pod/annotations", "istio.io/rev=\"blue\"\n")
	s := parse(t, root, Flags{Domain: "shop.svc.corp.example", ServiceCluster: "wp.shop", LogLevel: "default:warning,ads:debug", LogJSON: true}, template("XDS_HEADER_X-Tenant=t1"))
	if s.Gateway != "gw" || s.Class != "istio-waypoint" || s.Domain != "corp.example" || s.RootNamespace != "mesh" || s.Network != "n1" || s.LogLevel != "warning" || !s.LogJSON {
		t.Errorf("settings %+v", s)
	}
	if d := s.Discovery; d.Address != "istiod-blue.mesh.svc:15012" || d.Metadata["ClusterID"] != "c1" || d.Metadata["X-Tenant"] != "t1" || d.RootFile != filepath.Join(root, rootCert) || d.Plaintext {
		t.Errorf("discovery %+v", d)
	}
	if s.CA.Address != "istiod.istio-system.svc:15012" || s.CA.TokenFile != filepath.Join(root, tokenFile) {
		t.Errorf("CA %+v", s.CA)
	}
	n := s.Node
	if n.ID != "waypoint~10.0.0.7~waypoint-1.shop~shop.svc.corp.example" || n.Cluster != "wp.shop" || n.Locality != (Locality{"r1", "z1", "s1"}) {
		t.Errorf("node %+v", n)
	}
	for k, want := range map[string]any{
		"NAMESPACE": "shop", "SERVICE_ACCOUNT": "wp", "NAME": "waypoint-1", "INSTANCE_IPS": "10.0.0.7", "CLUSTER_ID": "c1", "NETWORK": "n1", "MESH_ID": "mesh1",
		"ISTIO_VERSION": IstioVersion, "INTERCEPTION_MODE": "REDIRECT", "NODE_NAME": "node-1", "IDLE_TIMEOUT": "5s",
	} {
		if n.Metadata[k] != want {
			t.Errorf("metadata %s is %v, want %v", k, n.Metadata[k], want)
		}
	}
	if l := n.Metadata["LABELS"].(map[string]any); l["x"] != `a"b` {
		t.Errorf("labels %v", l)
	}
	b, _ := json.Marshal(n.Metadata["PROXY_CONFIG"])
	if !strings.Contains(string(b), `"sampling":7`) {
		t.Errorf("PROXY_CONFIG is not passed on: %s", b)
	}
	if len(s.Warnings) > 0 || s.Drain != (Drain{5 * time.Second, 20 * time.Second}) || s.CertTTL != 24*time.Hour || s.Identity != (Identity{}) || !strings.HasSuffix(s.CRL, "/istio/crl/ca-crl.pem") {
		t.Errorf("%v %v %v %v %v", s.Warnings, s.Drain, s.CertTTL, s.Identity, s.CRL)
	}
}

// TestIdentityCannotBeOverridden keeps metadata that istiod checks or scopes by
// out of reach of user-given environment.
func TestIdentityCannotBeOverridden(t *testing.T) {
	s := parse(t, t.TempDir(), Flags{}, template("ISTIO_META_NAMESPACE=kube-system", `ISTIO_METAJSON_X={"SERVICE_ACCOUNT":"root","EXTRA":1}`, "ISTIO_METAJSON_BAD=["))
	m := s.Node.Metadata
	if m["NAMESPACE"] != "shop" || m["SERVICE_ACCOUNT"] != "wp" || m["EXTRA"] != float64(1) {
		t.Errorf("metadata %v", m)
	}
	if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "ISTIO_METAJSON_BAD") {
		t.Errorf("warnings %v", s.Warnings)
	}
}

func TestDefaults(t *testing.T) {
	s := parse(t, t.TempDir(), Flags{}, []string{"POD_NAME=p", "POD_NAMESPACE=n", "INSTANCE_IP=fd00::1"})
	if s.Discovery.Address != "istiod.istio-system.svc:15012" || s.CA.Address != s.Discovery.Address || s.TrustDomain != "cluster.local" || s.ClusterID != "Kubernetes" ||
		s.Account != "default" || s.Domain != "cluster.local" || s.Node.ID != "waypoint~fd00::1~p.n~n.svc.cluster.local" || s.Node.Metadata["PROXY_CONFIG"] == nil {
		t.Errorf("%+v", s)
	}
}

func TestSecondAddressFamily(t *testing.T) {
	s, err := Parse(Input{Flags: Flags{Role: "waypoint"}, Root: t.TempDir(), Environ: template(),
		Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fd00::7")}})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Node.Metadata["INSTANCE_IPS"]; got != "10.0.0.7,fd00::7" {
		t.Errorf("INSTANCE_IPS %v", got)
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		role  string
		env   []string
		says  string
		cause error
	}{
		{"router", template(), "router", ErrRole},
		{"waypoint", template("PROXY_CONFIG={"), "PROXY_CONFIG", nil},
		{"waypoint", template("INSTANCE_IP=none"), "INSTANCE_IP", nil},
		{"waypoint", template("POD_NAMESPACE="), "POD_NAMESPACE", nil},
		{"waypoint", template("COMPLIANCE_POLICY=fips-140-2"), "FIPS", nil},
		{"waypoint", template("COMPLIANCE_POLICY=other"), "none that Istio defines", nil},
	} {
		_, err := Parse(Input{Flags: Flags{Role: tt.role}, Environ: tt.env, Root: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), tt.says) || (tt.cause != nil && !errors.Is(err, tt.cause)) {
			t.Errorf("%s %v: %v, want %q", tt.role, tt.env[len(tt.env)-1], err, tt.says)
		}
	}
}

func TestGrace(t *testing.T) {
	for _, tt := range []struct {
		ratio, jitter string
		want          Grace
		warnings      int
	}{
		{"", "", Grace{0.5, 0.01}, 0},
		{"0.8", "0.05", Grace{0.8, 0.05}, 0},
		{"1.5", "NaN", Grace{0.5, 0.01}, 2},
		{"-1", "x", Grace{0.5, 0.01}, 2},
	} {
		s := parse(t, t.TempDir(), Flags{}, template("SECRET_GRACE_PERIOD_RATIO="+tt.ratio, "SECRET_GRACE_PERIOD_RATIO_JITTER="+tt.jitter))
		if s.Grace != tt.want || len(s.Warnings) != tt.warnings {
			t.Errorf("%q %q: %v, %v", tt.ratio, tt.jitter, s.Grace, s.Warnings)
		}
	}
}

func TestCompliance(t *testing.T) {
	for _, tt := range []struct {
		policy string
		fips   bool
		want   []tls.CurveID
	}{{"", false, nil}, {"pqc", false, []tls.CurveID{tls.X25519MLKEM768}}, {"fips-140-2", true, []tls.CurveID{tls.CurveP256}}} {
		s, err := Parse(Input{Flags: Flags{Role: "waypoint"}, Environ: template("COMPLIANCE_POLICY=" + tt.policy), Root: t.TempDir(), FIPS: tt.fips})
		if err != nil || !slices.Equal(s.Curves, tt.want) {
			t.Errorf("%s: %v %v", tt.policy, s, err)
		}
	}
}

func TestDrain(t *testing.T) {
	pc := func(s string) string { return `PROXY_CONFIG={"terminationDrainDuration":"` + s + `"}` }
	for _, tt := range []struct {
		env  []string
		want Drain
	}{
		{[]string{pc("5s")}, Drain{5 * time.Second, 20 * time.Second}}, // the stock value, in every ProxyConfig
		{[]string{pc("60s")}, Drain{5 * time.Second, 55 * time.Second}},
		{[]string{pc("2s")}, Drain{time.Second, time.Second}},
		{[]string{pc("soon")}, Drain{5 * time.Second, 20 * time.Second}},
		{[]string{"TERMINATION_DRAIN_DURATION_SECONDS=10"}, Drain{5 * time.Second, 5 * time.Second}},
		{[]string{"EXIT_ON_ZERO_ACTIVE_CONNECTIONS=true"}, Drain{5 * time.Second, drainForever}},
		{[]string{"EXIT_ON_ZERO_ACTIVE_CONNECTIONS=true", "MINIMUM_DRAIN_DURATION=1s"}, Drain{time.Second, drainForever}},
	} {
		if got := parse(t, t.TempDir(), Flags{}, template(tt.env...)).Drain; got != tt.want {
			t.Errorf("%v: %v, want %v", tt.env, got, tt.want)
		}
	}
}

func TestCredentials(t *testing.T) {
	root := t.TempDir()
	get := func(env ...string) *Settings { return parse(t, root, Flags{}, template(env...)) }
	for _, f := range []string{"cert-chain.pem", "key.pem"} {
		write(t, root, "etc/certs/"+f, "x")
	}
	if i := get().Identity; i != (Identity{}) {
		t.Errorf("without a root the files are taken: %v", i)
	}
	write(t, root, "etc/certs/root-cert.pem", "x")
	if i := get().Identity; i.Key != filepath.Join(root, "etc/certs/key.pem") {
		t.Errorf("files: %v", i)
	}
	write(t, root, "var/run/secrets/istio/crl/ca-crl.pem", "")
	if s := get(); s.CRL == "" {
		t.Error("the revocation list is not seen")
	}
	// Unix socket paths are short: not below the test's long directory.
	root, err := os.MkdirTemp("", "wp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	dir := filepath.Join(root, filepath.Dir(workloadSocket))
	os.MkdirAll(dir, 0o755)
	ln, err := net.Listen("unix", filepath.Join(dir, "own"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := parse(t, root, Flags{}, template("WORKLOAD_IDENTITY_SOCKET_FILE=../../own"))
	if s.Identity.Socket != filepath.Join(dir, "own") {
		t.Errorf("socket: %v", s.Identity)
	}
}

func TestPlaintextIsWarnedOf(t *testing.T) {
	s := parse(t, t.TempDir(), Flags{}, template(`PROXY_CONFIG={"discovery_address":"istiod.mesh.svc:15010"}`, "XDS_ROOT_CA=SYSTEM"))
	if !s.Discovery.Plaintext || s.CA.Plaintext || len(s.Warnings) != 1 || s.Discovery.RootFile != "SYSTEM" {
		t.Errorf("%+v %v", s.Discovery, s.Warnings)
	}
}

func TestLogLevels(t *testing.T) {
	for in, want := range map[string]string{"": "info", "default:debug": "debug", "error": "error", "ads:debug": "info", "all:none": "off", "default:loud": "info"} {
		if got := parse(t, t.TempDir(), Flags{LogLevel: in}, template()).LogLevel; got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func TestUnknownFlags(t *testing.T) {
	known := func(n string) bool { return n == "domain" }
	got := UnknownFlags([]string{"proxy", "--domain", "x", "--new=1", "--stsPort", "3", "--new", "-v", "--", "--later"}, known)
	if !reflect.DeepEqual(got, []string{"--new", "--stsPort"}) {
		t.Errorf("%q", got)
	}
}

func TestSupportedIstiod(t *testing.T) {
	for v, want := range map[string][2]bool{"1.31.1": {true, true}, "1.28-alpha.x": {true, true}, "1.27.9": {false, true}, "1.32.0": {false, true}, "2.0": {false, true}, "unknown": {false, false}} {
		ok, known := SupportedIstiod(v)
		if [2]bool{ok, known} != want {
			t.Errorf("%s: %v %v", v, ok, known)
		}
	}
}

func FuzzParsePodInfo(f *testing.F) {
	f.Add([]byte("a=\"b\"\nx=\"\\\"\"\n=\"\"\nno"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, bad := ParsePodInfo(b)
		if len(m)+len(bad) > strings.Count(string(b), "\n")+1 {
			t.Errorf("%d labels and %d bad lines of %q", len(m), len(bad), b)
		}
		if _, ok := m[""]; ok {
			t.Error("an empty key")
		}
	})
}

// TestProxyConfigFields checks which fields of a ProxyConfig act here, and that those
// which do not are told of.
func TestProxyConfigFields(t *testing.T) {
	for _, x := range []struct {
		config  string
		threads int
		told    []string
	}{
		{`{}`, 0, nil},
		{`{"concurrency":0,"proxyAdminPort":15000,"statusPort":15020,"drainDuration":"45s","tracing":{}}`, 0, nil},
		{`{"concurrency":2}`, 2, nil},
		{`{"concurrency":-1}`, 0, nil},
		{`{"proxyStatsMatcher":{"inclusionPrefixes":["x"]},"proxyAdminPort":15001,"extra_stat_tags":["a"],"runtimeValues":null}`, 0, []string{"extraStatTags", "proxyAdminPort", "proxyStatsMatcher"}},
	} {
		s := parse(t, t.TempDir(), Flags{}, template("PROXY_CONFIG="+x.config))
		var told []string
		for _, w := range s.Warnings {
			if rest, ok := strings.CutPrefix(w, "PROXY_CONFIG "); ok {
				name, _, _ := strings.Cut(rest, " ")
				told = append(told, name)
			}
		}
		if s.Threads != x.threads || !slices.Equal(told, x.told) {
			t.Errorf("%s: %d threads, told %q", x.config, s.Threads, told)
		}
	}
}
