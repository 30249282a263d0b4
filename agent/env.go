package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// env is an environment with fallbacks.
type env map[string]string

func newEnv(environ []string) env {
	e := env{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			e[k] = v
		}
	}
	return e
}

func (e env) get(k string) string { return e[k] }

func (e env) or(k, def string) string {
	if v := e[k]; v != "" {
		return v
	}
	return def
}

func (e env) bool(k string) bool {
	b, _ := strconv.ParseBool(e[k])
	return b
}

// fallback sets k where the environment does not.
func (e env) fallback(k, v string) {
	if _, ok := e[k]; !ok {
		e[k] = v
	}
}

func (e env) prefixed(prefix string) map[string]string {
	out := map[string]string{}
	for k, v := range e {
		if rest, ok := strings.CutPrefix(k, prefix); ok && rest != "" {
			out[rest] = v
		}
	}
	return out
}

// proxyConfig is meshconfig.ProxyConfig as JSON: it is passed on to istiod as it
// came, and few fields are read here.
type proxyConfig map[string]any

func parseProxyConfig(s string) (proxyConfig, error) {
	pc := proxyConfig{}
	if strings.TrimSpace(s) == "" {
		return pc, nil
	}
	if err := json.Unmarshal([]byte(s), &pc); err != nil {
		return nil, fmt.Errorf("PROXY_CONFIG is not JSON of a ProxyConfig: %w", err)
	}
	if pc == nil { // "null"
		pc = proxyConfig{}
	}
	return pc, nil
}

// text returns a field under its JSON name or its proto name.
func (pc proxyConfig) text(name string) string {
	for _, k := range []string{name, snake(name)} {
		if v, ok := pc[k].(string); ok {
			return v
		}
	}
	return ""
}

// threads is concurrency, which istiod leaves out or sets to 0 for all of them.
func (pc proxyConfig) threads() int {
	n, _ := pc["concurrency"].(float64)
	return max(0, int(n))
}

// ignoredConfig are fields of a ProxyConfig that a user sets for an effect which they
// do not have here, and what to do. What istiod acts on itself (tracing, proxyHeaders,
// connectionSettings, image), or sets by default, is not among them.
var ignoredConfig = map[string]string{
	"proxyStatsMatcher":     "all of Istio's metrics are there, and no others of Envoy's",
	"extraStatTags":         "add tags by a Telemetry's tagOverrides",
	"envoyAccessLogService": "name a provider in a Telemetry",
	"envoyMetricsService":   "metrics are scraped",
	"customConfigFile":      "there is no Envoy to start with it",
	"privateKeyProvider":    "keys stay in memory",
	"runtimeValues":         "they are switches of Envoy",
	"readinessProbe":        "the probe of a waypoint is its own",
	"caCertificatesPem":     "mount the roots, or give them to istiod",
	"proxyAdminPort":        "use the flag --admin-addr",
}

// ignored lists the fields of ignoredConfig that are set, in order.
func (pc proxyConfig) ignored() (out []string) {
	for name := range ignoredConfig {
		for _, k := range []string{name, snake(name)} {
			v, there := pc[k]
			if there && v != nil && !(name == "proxyAdminPort" && v == float64(adminPort)) {
				out = append(out, name)
				break
			}
		}
	}
	slices.Sort(out)
	return out
}

// adminPort is the default of proxyAdminPort, which istiod writes out.
const adminPort = 15000

// metadata is proxyMetadata: further environment, which the template repeats.
func (pc proxyConfig) metadata() map[string]string {
	out := map[string]string{}
	for _, k := range []string{"proxyMetadata", "proxy_metadata"} {
		m, _ := pc[k].(map[string]any)
		for name, v := range m {
			if s, ok := v.(string); ok {
				out[name] = s
			}
		}
	}
	return out
}

func snake(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// maxPodFile bounds a downward API file: annotations are at most 256 KiB
// (apimachinery: TotalAnnotationSizeLimitB), quoting can double them.
const maxPodFile = 1 << 20

func (s *Settings) podFile(name string) map[string]string {
	b, err := os.ReadFile(name)
	if err != nil {
		if !os.IsNotExist(err) {
			s.warn("%v", err)
		}
		return map[string]string{}
	}
	if len(b) > maxPodFile {
		s.warn("%s has %d bytes and is not read", name, len(b))
		return map[string]string{}
	}
	m, bad := ParsePodInfo(b)
	if len(bad) > 0 {
		s.warn("%s: %d lines are not key=\"value\"; the first is %q", name, len(bad), bad[0])
	}
	return m
}

// ParsePodInfo reads a file of the downward API: lines of key="quoted value". It
// also returns the lines it could not read.
func ParsePodInfo(b []byte) (m map[string]string, bad []string) {
	m = map[string]string{}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, maxPodFile+1)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" {
			continue
		}
		k, quoted, ok := strings.Cut(line, "=")
		v, err := strconv.Unquote(quoted)
		if !ok || err != nil || k == "" {
			bad = append(bad, line)
			continue
		}
		m[k] = v
	}
	return m, bad
}

// UnknownFlags lists the flags in args that known does not know, each once.
func UnknownFlags(args []string, known func(name string) bool) (out []string) {
	for _, a := range args {
		if a == "--" {
			break
		}
		name, ok := strings.CutPrefix(a, "--")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "=")
		if !known(name) && !slices.Contains(out, "--"+name) {
			out = append(out, "--"+name)
		}
	}
	return out
}
