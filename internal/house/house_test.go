package house

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module = "waypoint.dev/waypoint"
	root   = "../.."
)

// pkg is what `go list` says of one package.
type pkg struct {
	ImportPath, Dir string
	Imports, Deps   []string
	GoFiles         []string
}

func (p *pkg) name() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Dir,Imports,Deps,GoFiles", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			t.Fatalf("go list: %v\n%s", err, ee.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 15 {
		t.Fatalf("go list found %d packages: is the root right?", len(all))
	}
	return all
}

func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

func anyWithin(name string, dirs ...string) bool {
	for _, d := range dirs {
		if within(name, d) {
			return true
		}
	}
	return false
}

// TestImportDirection holds what docs/architecture.md draws.
func TestImportDirection(t *testing.T) {
	// Which of our own packages each tree may import. Trees not listed may
	// import anything (commands, the demo, the test mesh).
	allowed := map[string][]string{
		"internal/attrs":     {},
		"internal/buf":       {},
		"internal/urlpath":   {},
		"routing":            {"routing", "internal"},
		"authz":              {"authz", "internal"},
		"resilience/balance": {"resilience/balance", "internal"},
		"resilience":         {"resilience", "internal"},
		"hbone/h2":           {"hbone/h2", "internal"},
		"hbone":              {"hbone", "identity", "internal"},
		"identity":           {"identity", "internal"},
		"config":             {"config", "routing", "authz", "resilience", "internal"},
		"telemetry":          {"telemetry", "internal"},
		"proxy/codec":        {"proxy/codec", "internal"},
		"proxy/http1":        {"proxy/codec", "proxy/http1", "internal"},
		"proxy/http2":        {"proxy/codec", "proxy/http2", "hbone/h2", "internal"},
		"xds":                {},
		"xds/feed":           {"config", "config/istiod", "xds"},
		"xds/dump":           {"config/istiod", "identity", "xds/feed"},
		"xds/objects":        {"config", "config/kube", "xds"},
		"agent":              {},
		"controller/pki":     {},
		"controller/token":   {},
		"admin":              {"admin", "internal"},
		"admin/view":         {"admin/view", "config", "routing", "authz", "resilience", "identity", "internal"},
	}
	all := packages(t)
	for dir := range allowed {
		if !slices.ContainsFunc(all, func(p pkg) bool { return within(p.name(), dir) }) {
			t.Errorf("%s is allowed imports and is not there", dir)
		}
	}
	for _, p := range all {
		tree := ""
		for dir := range allowed {
			if within(p.name(), dir) && len(dir) > len(tree) {
				tree = dir
			}
		}
		if tree == "" {
			continue
		}
		for _, imp := range p.Imports {
			own, ok := strings.CutPrefix(imp, module+"/")
			if ok && !anyWithin(own, allowed[tree]...) {
				t.Errorf("%s imports %s; %s may import only %v", p.name(), own, tree, allowed[tree])
			}
		}
	}
}

// TestHeavyImportsStayWhereTheyBelong keeps protobuf, grpc, Kubernetes and
// net/http off the data path.
func TestHeavyImportsStayWhereTheyBelong(t *testing.T) {
	rules := []struct {
		what string
		not  *regexp.Regexp
		only []string // trees that may; nobody else
		why  string
	}{
		{"protobuf and grpc", regexp.MustCompile(`^(google\.golang\.org/(protobuf|grpc)|github\.com/envoyproxy/go-control-plane)(/|$)`),
			[]string{"config/istiod", "xds", "controller", "identity", "telemetry/otlp", "authz/extauthz", "resilience/ratelimit", "internal/testmesh", "cmd"},
			"policies and the data path run on plain structs"},
		{"Kubernetes and Istio API types", regexp.MustCompile(`^(k8s\.io|sigs\.k8s\.io|istio\.io)/`),
			[]string{"config/kube", "controller", "identity", "xds/dump", "internal/testmesh", "cmd/waypoint-controller"},
			"sources translate them once, at the edge"},
		{"client-go", regexp.MustCompile(`^k8s\.io/client-go(/|$)`), []string{"controller", "cmd/waypoint-controller"}, "it costs the proxy tens of megabytes"},
	}
	for _, p := range packages(t) {
		for _, r := range rules {
			if anyWithin(p.name(), r.only...) {
				continue
			}
			for _, imp := range p.Imports {
				if r.not.MatchString(imp) {
					t.Errorf("%s imports %s: %s stay in %v, because %s", p.name(), imp, r.what, r.only, r.why)
				}
			}
		}
		if anyWithin(p.name(), "hbone", "proxy", "routing", "authz/jwt", "resilience", "config") &&
			p.name() != "authz/jwt" && p.name() != "proxy/stages" { // they fetch JWKS documents
			for _, imp := range p.Imports {
				if imp == "net/http" {
					t.Errorf("%s imports net/http: the data path has codecs of its own", p.name())
				}
			}
		}
	}
}

// TestProxyLinksNoClientGo looks at all that the proxy binary links.
func TestProxyLinksNoClientGo(t *testing.T) {
	for _, p := range packages(t) {
		if p.name() != "cmd/waypoint" {
			continue
		}
		for _, d := range p.Deps {
			if strings.HasPrefix(d, "k8s.io/client-go") {
				t.Errorf("cmd/waypoint links %s", d)
			}
		}
		return
	}
	t.Fatal("cmd/waypoint is not in the list of packages")
}

// skipped are folders that hold nothing of ours.
var skipped = map[string]bool{".git": true, "bin": true, ".cache": true, ".venv": true}

func eachFile(t *testing.T, f func(path string, src []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && skipped[d.Name()] {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f(path, src)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEveryPackageSaysWhatItIs wants a package comment of at least two lines.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		best := ""
		fset := token.NewFileSet()
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if d := f.Doc.Text(); len(d) > len(best) {
				best = d
			}
		}
		if strings.Count(strings.TrimSpace(best), "\n") < 1 {
			t.Errorf("%s has no package comment that says what it is and how data flows", p.ImportPath)
		}
	}
}

// TestSource looks for what has no place in the source.
func TestSource(t *testing.T) {
	var open = strings.Join([]string{"TO" + "DO", "FIX" + "ME", "XX" + "X"}, "|")
	bad := []struct {
		re      *regexp.Regexp
		why     string
		inTests bool
	}{
		{regexp.MustCompile(`\b(` + open + `)\b`), "finish it or write the limit into the docs", true},
		{regexp.MustCompile(`\btime\.Sleep\(`), "", false},
		{regexp.MustCompile(`\bt\.Skip(f|Now)?\(`), "a test that does not run proves nothing", true},
		{regexp.MustCompile(`\blog\.(Print|Fatal|Panic)`), "log through slog", true},
	}
	// Polling with a deadline needs a pause; these places have one.
	sleeps := regexp.MustCompile(`^(internal/(demo|testmesh)|conformance)/`)
	eachFile(t, func(path string, src []byte) {
		rel, _ := filepath.Rel(root, path)
		if within(filepath.ToSlash(rel), "internal/house") {
			return
		}
		test := strings.HasSuffix(path, "_test.go")
		for _, b := range bad {
			if test && !b.inTests {
				continue
			}
			if loc := b.re.FindIndex(src); loc != nil {
				if b.why == "" && sleeps.MatchString(filepath.ToSlash(rel)) {
					continue
				}
				line := 1 + strings.Count(string(src[:loc[0]]), "\n")
				t.Errorf("%s:%d: %s: %s", rel, line, src[loc[0]:loc[1]], b.why)
			}
		}
	})
}

// TestFilesStaySmall holds one idea to a file. The limit leaves room for tables.
func TestFilesStaySmall(t *testing.T) {
	const limit = 600
	eachFile(t, func(path string, src []byte) {
		if n := strings.Count(string(src), "\n"); n > limit {
			t.Errorf("%s has %d lines, the limit is %d: split it by idea", path, n, limit)
		}
	})
}

// TestLeakChecksEverywhere wants goleak in the TestMain of every package with tests.
func TestLeakChecksEverywhere(t *testing.T) {
	exempt := map[string]bool{"internal/house": true} // starts no goroutine of ours
	for _, p := range packages(t) {
		if exempt[p.name()] {
			continue
		}
		tests, _ := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		if len(tests) == 0 {
			continue
		}
		found := false
		for _, f := range tests {
			parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && (s.Sel.Name == "VerifyTestMain" || s.Sel.Name == "Find") {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "goleak" {
						found = true
					}
				}
				return true
			})
		}
		if !found {
			t.Errorf("%s has tests but no goleak.VerifyTestMain", p.name())
		}
	}
}
