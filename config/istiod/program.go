package istiod

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

type anyMessage = anypb.Any

// program is what one filter chain means, apart from the addresses it serves. It
// is immutable once translated.
type program struct {
	name   string
	http   bool   // an HTTP connection manager ends it; else tcp_proxy
	broken string // why everything is refused

	// Of an HTTP chain.
	stages   []config.Stage
	routes   []routing.Rule
	retries  []*resilience.Retry
	faults   []*resilience.Fault
	hashes   [][]balance.HashSource
	implicit bool // one plain route to one cluster
	settings config.HTTPSettings
	grpcWeb  bool

	// Of a TCP chain.
	conn     []authz.Policy
	custom   []config.Stage // providers that policies of connections name
	tcp      []routing.Backend
	tcpIdle  time.Duration
	tcpMax   time.Duration // life of a connection
	hash     []balance.HashSource
	readsSNI bool

	refs      []string // clusters that routes and tcp index
	telemetry *config.Telemetry
	problems  []config.Problem
}

// translator builds one program.
type translator struct {
	p    *program
	rbac rbacReader
	ext  func(name string) (*anyMessage, bool) // extension configurations
	used []string                              // extension configurations asked for
	// shadow holds the rules of shadow RBAC filters seen so far, by the metadata key
	// that tells later filters which of them matched.
	shadow map[string][]namedRule

	response *routing.HeaderOps
	names    map[string]string // filter name -> type URL
	refs     map[string]int
	intern   *interner
}

// fail makes the whole chain answer 503; the first reason stays.
func (t *translator) fail(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if t.p.broken == "" {
		t.p.broken = msg
	}
	t.note(config.Error, ReasonUnsupported, "", msg+"; every request answers 503")
}

// note records a problem of the chain.
func (t *translator) note(s config.Severity, reason, field, msg string) {
	t.p.problems = append(t.p.problems, config.Problem{
		Severity: s, Kind: "FilterChain", Name: t.p.name, Source: "main_internal",
		Field: field, Message: msg, Reason: reason,
	})
}

// ref returns the index of a cluster among the references.
func (t *translator) ref(cluster string) int {
	if i, ok := t.refs[cluster]; ok {
		return i
	}
	if t.refs == nil {
		t.refs = make(map[string]int)
	}
	i := len(t.p.refs)
	t.p.refs = append(t.p.refs, cluster)
	t.refs[cluster] = i
	return i
}

// unpack decodes an Any of the message's own type.
func unpack(a *anyMessage, m proto.Message) error {
	if a == nil {
		return fmt.Errorf("has no configuration")
	}
	want := string(m.ProtoReflect().Descriptor().FullName())
	if got := typeName(a.GetTypeUrl()); got != want {
		return fmt.Errorf("is a %s where %s is expected", got, want)
	}
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return fmt.Errorf("cannot be decoded: %w", err)
	}
	return nil
}

// typeName is the message name of a type URL.
func typeName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

func shortType(url string) string {
	n := typeName(url)
	return n[strings.LastIndexByte(n, '.')+1:]
}
