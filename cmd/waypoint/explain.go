package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/stages"
	"waypoint.dev/waypoint/routing"
)

func explainCommand() *cobra.Command {
	var (
		mesh        meshFlags
		dir, output string
		q           asked
	)
	cmd := &cobra.Command{
		Use:   "explain [METHOD] URL",
		Short: "Say which route and policy decide a request or connection, and why",
		Long: `explain takes one request through the code that serves real ones, sends nothing,
and prints which rule won, which lost and why, which policies were considered,
and what the waypoint would answer.

  waypoint explain --config DIR GET http://cart.shop.svc.cluster.local/v2/x \
      -H 'x-canary: true' --from clients/curl

A URL of scheme tcp or tls is a connection without HTTP:

  waypoint explain --config DIR tls://web.shop:443 --sni a.example --from clients/curl`,
		Args: arguments(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := mesh.options()
			if err != nil {
				return err
			}
			if dir == "" {
				return errors.New("--config is required: a directory of Kubernetes manifests")
			}
			objs, err := kube.LoadDir(dir)
			if err != nil {
				// run does not start with it: what it says may be what denies the request.
				return fmt.Errorf("%w\nrun does not start with what cannot be read, so nothing is explained; 'waypoint check %s' says more", err, dir)
			}
			m := kube.NewBuilder(o).Build(objs)
			for _, p := range m.Problems {
				if p.Severity == config.Error {
					fmt.Fprintln(cmd.ErrOrStderr(), kube.ProblemLine(p))
				}
			}
			var store config.Store
			run := stages.New(stages.Options{Store: &store})
			defer run.Close()
			defer run.Watch(&store)()
			snap, _ := config.Compile(m, nil, config.Env{State: proxy.BackendState, Stage: run.Compile})
			store.Swap(snap)
			if q.url = args[len(args)-1]; len(args) > 1 {
				q.method = args[0]
			}
			ask, err := q.question(snap.Mesh.TrustDomain)
			if err != nil {
				return err
			}
			ask.Unlisted = true
			e, err := proxy.Explain(&store, ask)
			if errors.Is(err, proxy.ErrUnknownDestination) {
				return fmt.Errorf("%w\n%s", err, served(m))
			}
			if err != nil {
				return err
			}
			switch output {
			case "json":
				return writeJSON(cmd.OutOrStdout(), e)
			case "text":
				printExplanation(cmd.OutOrStdout(), ask, e)
				return nil
			}
			return fmt.Errorf("-o %q: use text or json", output)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&dir, "config", "", "directory of manifests")
	fs.StringVar(&q.from, "from", "", "client: namespace/service-account, or a SPIFFE URI; empty: no identity")
	fs.StringVar(&q.source, "source", "", "address of the client's pod")
	fs.StringVar(&q.sni, "sni", "", "server name of the client's TLS")
	fs.StringArrayVarP(&q.headers, "header", "H", nil, "request header, 'name: value'; may be repeated")
	fs.StringVarP(&output, "output", "o", "text", "text or json")
	mesh.register(fs)
	return cmd
}

// served lists what could have been asked about.
func served(m *config.Model) string {
	if len(m.Destinations) == 0 {
		return "it serves nothing: no service or pod uses this waypoint (label it or its namespace istio.io/use-waypoint)"
	}
	const most = 10
	var b strings.Builder
	w := m.Mesh.Waypoint
	fmt.Fprintf(&b, "waypoint %s/%s serves ", w.Namespace, w.Name)
	for i, d := range m.Destinations[:min(len(m.Destinations), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(d.Key)
	}
	if more := len(m.Destinations) - most; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	b.WriteString("; a bare name means the namespace of --from")
	return b.String()
}

// asked is a request or connection as people write it.
type asked struct {
	method, url, from, source, sni string
	headers                        []string
}

// question reads what was written.
func (a *asked) question(trustDomain string) (q proxy.Question, err error) {
	q = proxy.Question{Method: cmp.Or(a.method, "GET"), URL: a.url, SNI: a.sni}
	from := a.from
	for _, h := range a.headers {
		name, value, ok := strings.Cut(h, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return q, fmt.Errorf("header %q: write 'name: value'", h)
		}
		q.Headers = append(q.Headers, attrs.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	if ns, sa, ok := strings.Cut(from, "/"); ok && !strings.HasPrefix(from, "spiffe:") {
		from = identity.URI(trustDomain, ns, sa)
	}
	if from != "" {
		if q.From, err = identity.Parse(from); err != nil {
			return q, fmt.Errorf("client %q: write namespace/service-account or a SPIFFE URI", from)
		}
	}
	if a.source != "" {
		if q.Source, err = netip.ParseAddr(a.source); err != nil {
			return q, fmt.Errorf("source %q: write the IP address of the client's pod", a.source)
		}
	}
	return q, nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printShare tells what the filters of one backend make of its share.
func printShare(w io.Writer, b *proxy.ExplainedBackend) {
	var parts []string
	if b.Status != 0 {
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("answered %d %s", b.Status, b.Location)))
	}
	if b.Upstream != "" {
		parts = append(parts, "upstream "+b.Host+b.Upstream)
	}
	for _, l := range []struct {
		what  string
		names []string
	}{{"filters ", b.Filters}, {"mirrors ", b.Mirrors}} {
		if len(l.names) > 0 {
			parts = append(parts, l.what+strings.Join(l.names, ", "))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(w, "  its share  %s\n", strings.Join(parts, "; "))
	}
}

// words joins what is not empty.
func words(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " ")
}

func printExplanation(w io.Writer, q proxy.Question, e *proxy.Explanation) {
	// line leaves out what is empty: half of the answers have no policy or no route.
	line := func(what string, parts ...string) {
		if said := words(parts...); said != "" {
			fmt.Fprintf(w, "%-12s %s\n", what, said)
		}
	}
	if e.Connection {
		fmt.Fprintln(w, words(q.URL, q.SNI))
	} else {
		fmt.Fprintln(w, words(q.Method, q.URL))
	}
	line("destination", e.Destination)
	line("path", e.Path)
	fmt.Fprintf(w, "decision     %s, %s", e.Decision, e.Action)
	if e.Status != 0 && e.Action != "forward" { // there the backend says it
		fmt.Fprintf(w, ", status %d", e.Status)
	}
	if e.GRPCStatus != 0 {
		fmt.Fprintf(w, ", grpc-status %d", e.GRPCStatus)
	}
	if e.Details != "" {
		fmt.Fprintf(w, " (%s)", e.Details)
	}
	fmt.Fprintln(w)
	line("policy", e.Policy, e.PRule, e.Reason)
	line("audited by", e.Audit)
	line("dry run", e.DryRun, e.DryRunPolicy)
	rule, match := "", ""
	if e.Rule != "" {
		rule = "rule " + e.Rule
		if e.Match >= 0 {
			match = fmt.Sprintf("match %d", e.Match)
		}
	}
	line("route", e.Route, rule, match)
	for _, b := range e.Backends {
		plural := "s"
		if b.Available == 1 {
			plural = ""
		}
		line("backend", fmt.Sprintf("%s weight %d, %d endpoint%s", b.Backend, b.Weight, b.Available, plural), b.Invalid)
		printShare(w, &b)
	}
	line("filters", strings.Join(e.Filters, ", "))
	line("upstream", e.Host+e.Upstream)
	line("location", e.Location)
	line("body", e.Body)
	for _, s := range e.NotAsked {
		line("not asked", s)
	}
	printPolicies(w, e.Policies)
	printRoutes(w, e.Routes)
}

func printPolicies(w io.Writer, ps []authz.Considered) {
	if len(ps) > 0 {
		fmt.Fprintln(w, "\npolicies considered")
	}
	for _, p := range ps {
		verdict := "no rule matched"
		switch {
		case p.Invalid != "":
			verdict = "INVALID, denies everything: " + p.Invalid
		case p.Matched:
			verdict = "matched by " + p.Rule
		}
		if p.DryRun {
			verdict += " (dry run)"
		}
		fmt.Fprintf(w, "  %-6s %s: %s\n", p.Action, p.Policy, verdict)
		for _, r := range p.Rules {
			for _, f := range r.Failed {
				fmt.Fprintf(w, "           %s: %s did not hold, the request has %q\n", r.Rule, f.Field, f.Saw)
			}
		}
	}
}

func printRoutes(w io.Writer, rs []routing.Considered) {
	if len(rs) > 0 {
		fmt.Fprintln(w, "\nroutes considered")
	}
	for _, r := range rs {
		rule := ""
		if r.Rule != "" {
			rule = "rule " + r.Rule
		}
		fmt.Fprintf(w, "  %-8s %s: %s", r.Outcome, words(r.Route, rule), r.Wants)
		if r.Why != "" {
			fmt.Fprintf(w, "  (%s)", r.Why)
		}
		fmt.Fprintln(w)
	}
}

// explainHandler answers the administration port for the live snapshot.
func explainHandler(store *config.Store) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := r.URL.Query()
		snap := store.Load()
		if snap == nil {
			http.Error(w, "no configuration yet", http.StatusServiceUnavailable)
			return
		}
		a := asked{method: v.Get("method"), url: v.Get("url"), from: v.Get("from"), source: v.Get("source"), sni: v.Get("sni"), headers: v["header"]}
		q, err := a.question(snap.Mesh.TrustDomain)
		var e *proxy.Explanation
		if err == nil {
			e, err = proxy.Explain(store, q)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if v.Get("format") == "text" {
			printExplanation(w, q, e)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		writeJSON(w, e)
	})
}
