package mesh

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/apis/v1alpha2"
	"sigs.k8s.io/gateway-api/apis/v1alpha3"
	xv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// meshTests is how many tests of the pinned version ask for a mesh: a new version with
// more of them must be looked at, and one with fewer hides something.
const meshTests = 22

// envPatience shortens how long the suite waits for an answer to become right, for runs
// that are meant to fail.
const envPatience = "WAYPOINT_SUITE_PATIENCE"

// TestSuite runs every mesh test there is, of both profiles, core and extended, and those
// that no profile counts. None may be skipped.
func TestSuite(t *testing.T) {
	want, supported := meshSuite()
	if len(want) != meshTests {
		t.Fatalf("the suite has %d mesh tests, want %d", len(want), meshTests)
	}
	begin := time.Now()
	opts := options(t)
	opts.SupportedFeatures = supported
	var mu sync.Mutex
	var ran []string
	opts.Hook = func(t *testing.T, test suite.ConformanceTest, _ *suite.ConformanceTestSuite) {
		if !t.Skipped() && !t.Failed() {
			mu.Lock()
			ran = append(ran, test.ShortName)
			mu.Unlock()
		}
	}
	conformance.RunConformanceWithOptions(t, opts)
	for _, name := range want {
		if !slices.Contains(ran, name) {
			t.Errorf("%s did not pass", name)
		}
	}
	if cluster != nil {
		say("%d of %d tests of the official suite pass, none is skipped (%v)", len(ran), len(want), time.Since(begin).Round(time.Second))
	}
}

// meshSuite returns the names of all mesh tests and all features that they ask for.
func meshSuite() (names []string, supported []features.FeatureName) {
	for _, test := range tests.ConformanceTests {
		if !slices.Contains(test.Features, features.SupportMesh) {
			continue
		}
		names = append(names, test.ShortName)
		for _, f := range test.Features {
			if !slices.Contains(supported, f) {
				supported = append(supported, f)
			}
		}
	}
	slices.Sort(supported)
	return names, supported
}

func options(t *testing.T) suite.ConformanceOptions {
	cfg := restConfig(t)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, gatewayv1.Install, v1alpha2.Install, v1alpha3.Install,
		xv1alpha1.Install, apiextensionsv1.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	co := client.Options{Scheme: scheme}
	c, err := client.New(cfg, co)
	if err != nil {
		t.Fatal(err)
	}
	cs, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	o := suite.ConformanceOptions{
		Client: c, ClientOptions: co, Clientset: cs, RestConfig: cfg,
		ConfigurableOptions: suite.ConfigurableOptions{
			NamespaceLabels: map[string]string{
				"istio.io/dataplane-mode":         "ambient",
				"istio.io/use-waypoint":           waypointName,
				"istio.io/use-waypoint-namespace": meshNamespace,
			},
			// What the suite's tests share stays for the negative controls, which take it as it
			// is: it takes as long to start as all tests take to run.
			CleanupBaseResources: false, CleanupTestResources: true,
			Mode: "default", TimeoutConfig: config.DefaultTimeoutConfig(),
			ConformanceProfiles: []suite.ConformanceProfileName{suite.MeshHTTPConformanceProfileName, suite.MeshGRPCConformanceProfileName},
			Implementation:      implementation(),
		},
	}
	if d, err := time.ParseDuration(os.Getenv(envPatience)); err == nil {
		o.TimeoutConfig.MaxTimeToConsistency = d
		o.TimeoutConfig.RequestTimeout = d
	}
	if dir := os.Getenv("REPORT"); dir != "" {
		o.ReportOutputPath = filepath.Join(dir, o.Implementation.Version+"-report.yaml")
	}
	return o
}

func restConfig(t *testing.T) *rest.Config {
	if path := os.Getenv(envKubeconfig); path != "" {
		cfg, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	return rest.CopyConfig(cluster.Config)
}

// implementation is what the report says of us.
func implementation() confv1.Implementation {
	version := os.Getenv("VERSION")
	if version == "" {
		version = "main"
	}
	return confv1.Implementation{
		Organization: "waypoint", Project: "waypoint", URL: "https://waypoint.dev/waypoint",
		Version: strings.TrimSpace(version), Contact: []string{"https://waypoint.dev/waypoint"},
	}
}
