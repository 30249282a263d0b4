package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Binaries are paths of what a lab runs.
type Binaries struct {
	Box                  string
	EchoServer           string
	EchoClient           string
	Waypoint, Controller string
	Forwarder            string
}

// target is one binary.
type target struct {
	name, dir, pkg string
	ldflags        string
	kept           bool // under a hash of its module, instead of built each time
}

// kubeVersion is what the API server says it is; clients refuse one that says nothing. It
// must be that of the box's go.mod.
const kubeVersion = "v1.36.3"

const kubeStamp = "-X k8s.io/component-base/version.gitVersion=" + kubeVersion +
	" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"

// All builds what is missing. repo is the root of the repository, cache a folder that is
// made and should outlive the run; progress is told what takes long. With fresh false what
// an earlier call built of the waypoint is taken as it is.
func All(ctx context.Context, repo, cache string, fresh bool, progress io.Writer) (*Binaries, error) {
	lab := filepath.Join(repo, "conformance", "lab")
	echo := filepath.Join(lab, "echo")
	b := &Binaries{}
	targets := []struct {
		target
		out *string
	}{
		{target{name: "box", dir: filepath.Join(lab, "box"), pkg: ".", ldflags: kubeStamp, kept: true}, &b.Box},
		{target{name: "echo-server", dir: echo, pkg: "istio.io/istio/pkg/test/echo/cmd/server", kept: true}, &b.EchoServer},
		{target{name: "echo-client", dir: echo, pkg: "istio.io/istio/pkg/test/echo/cmd/client", kept: true}, &b.EchoClient},
		{target{name: "waypoint", dir: repo, pkg: "./cmd/waypoint"}, &b.Waypoint},
		{target{name: "waypoint-controller", dir: repo, pkg: "./cmd/waypoint-controller"}, &b.Controller},
		{target{name: "forwarder", dir: lab, pkg: "./cmd/forwarder"}, &b.Forwarder},
	}
	// What is kept takes all of the machine while it is built; the others link, each on
	// one core.
	var wg sync.WaitGroup
	errs := make([]error, len(targets))
	for i, t := range targets {
		build := func() {
			if *t.out, errs[i] = t.build(ctx, cache, fresh, progress); errs[i] != nil {
				errs[i] = fmt.Errorf("build: %s: %w", t.name, errs[i])
			}
		}
		if t.kept {
			build()
		} else {
			wg.Go(build)
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return b, nil
}

func (t target) build(ctx context.Context, cache string, fresh bool, progress io.Writer) (string, error) {
	out := filepath.Join(cache, t.name)
	if _, err := os.Stat(out); err == nil && !t.kept && !fresh {
		return out, nil
	}
	if t.kept {
		sum, err := t.sum()
		if err != nil {
			return "", err
		}
		out += "-" + sum
		if _, err := os.Stat(out); err == nil {
			return out, nil
		}
		fmt.Fprintf(progress, "building %s, which is kept in %s for the next time\n", t.name, cache)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	begin := time.Now()
	tmp := fmt.Sprintf("%s.%d.tmp", out, os.Getpid())
	defer os.Remove(tmp)
	args := []string{"build", "-ldflags", strings.TrimSpace("-s -w " + t.ldflags), "-o", tmp}
	if t.kept {
		args = append(args, "-trimpath") // the same wherever it was built
	}
	cmd := exec.CommandContext(ctx, "go", append(args, t.pkg)...)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, text)
	}
	if t.kept {
		fmt.Fprintf(progress, "built %s in %v\n", t.name, time.Since(begin).Round(time.Second))
	}
	return out, os.Rename(tmp, out)
}

// sum covers everything that the binary is made of: the module's own files, the versions
// and hashes of all others, and the compiler.
func (t target) sum() (string, error) {
	var names []string
	for _, pattern := range []string{"*.go", "go.mod", "go.sum"} {
		m, err := filepath.Glob(filepath.Join(t.dir, pattern))
		if err != nil {
			return "", err
		}
		names = append(names, m...)
	}
	slices.Sort(names)
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), t.pkg, t.ldflags)
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, filepath.Base(n), len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
