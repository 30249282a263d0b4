package kube

import (
	"encoding/json"
	"iter"
	"slices"
	"strings"
)

type groupKind struct{ group, kind string }

// String is the kind as people write it: with its group, if it has one.
func (k groupKind) String() string {
	if k.group == "" {
		return k.kind
	}
	return k.group + "/" + k.kind
}

// kindInfo is what this package knows of one kind.
type kindInfo struct {
	versions []string
	cluster  bool // has no namespace
	decode   func(raw []byte) (any, error)
	note     string                    // why objects of this kind are not applied; empty: they are
	advise   func(raw []byte) []advice // what becomes of their fields under istiod; nil: the note says all
}

func (k *kindInfo) served(version string) bool { return slices.Contains(k.versions, version) }

// Groups of the kinds.
const (
	groupGateway  = "gateway.networking.k8s.io"
	groupXGateway = "gateway.networking.x-k8s.io"
	groupNet      = "networking.istio.io"
	groupSecurity = "security.istio.io"
)

const (
	notYet    = "is not applied yet"
	byIstiod  = "is read by istiod only; a waypoint ignores it"
	byOthers  = "is not needed to serve; ignored"
	onGateway = "acts on gateways only; a waypoint ignores it"
)

var (
	netVersions   = []string{"v1", "v1beta1", "v1alpha3"}
	routeVersions = []string{"v1", "v1beta1"}
	alphaVersions = []string{"v1", "v1beta1", "v1alpha3", "v1alpha2"}
)

// kinds lists every kind that is read or known. Any other one is reported.
var kinds = map[groupKind]*kindInfo{
	{"", "Namespace"}:                     {versions: []string{"v1"}, cluster: true, decode: lenient[Empty]},
	{"", "Node"}:                          {versions: []string{"v1"}, cluster: true, decode: lenient[Empty]},
	{"", "Service"}:                       {versions: []string{"v1"}, decode: decodeService},
	{"", "Pod"}:                           {versions: []string{"v1"}, decode: lenient[Pod]},
	{"", "ServiceAccount"}:                {versions: []string{"v1"}, decode: lenient[Empty]},
	{"discovery.k8s.io", "EndpointSlice"}: {versions: []string{"v1"}, decode: lenient[EndpointSlice]},
	{"", "Endpoints"}:                     {versions: []string{"v1"}, note: "is superseded by EndpointSlice, which is read instead"},

	{groupGateway, "GatewayClass"}:           {versions: routeVersions, cluster: true, decode: lenient[GatewayClass]},
	{groupGateway, "Gateway"}:                {versions: routeVersions, decode: lenient[Gateway]},
	{groupGateway, "HTTPRoute"}:              {versions: routeVersions, decode: strictly[HTTPRoute]},
	{groupGateway, "GRPCRoute"}:              {versions: alphaVersions, decode: strictly[GRPCRoute]},
	{groupGateway, "TCPRoute"}:               {versions: alphaVersions, decode: strictly[TCPRoute]},
	{groupGateway, "TLSRoute"}:               {versions: alphaVersions, decode: strictly[TLSRoute]},
	{groupGateway, "ReferenceGrant"}:         {versions: alphaVersions, note: "is not needed in a mesh; ignored"},
	{groupGateway, "BackendTLSPolicy"}:       {versions: alphaVersions, note: notYet},
	{groupGateway, "ListenerSet"}:            {versions: alphaVersions, note: onGateway},
	{groupGateway, "UDPRoute"}:               {versions: alphaVersions, note: onGateway},
	{groupXGateway, "XListenerSet"}:          {versions: []string{"v1alpha1"}, note: onGateway},
	{groupXGateway, "XBackendTrafficPolicy"}: {versions: []string{"v1alpha1"}, decode: strictly[XBackendTrafficPolicy]},

	{groupNet, "WorkloadEntry"}:   {versions: netVersions, decode: strictly[WorkloadEntry]},
	{groupNet, "ServiceEntry"}:    {versions: netVersions, decode: strictly[ServiceEntry]},
	{groupNet, "DestinationRule"}: {versions: netVersions, decode: strictly[DestinationRule]},
	{groupNet, "VirtualService"}:  {versions: netVersions, note: notYet + " from files: write an HTTPRoute. Under istiod it is honoured as istiod translates it, but no service may have both", advise: advised(adviseVirtualService)},
	{groupNet, "Gateway"}:         {versions: netVersions, note: onGateway},
	{groupNet, "EnvoyFilter"}:     {versions: netVersions, note: "is ignored from files: it patches Envoy, which this waypoint is not. Under istiod a waypoint gets what it patched. For rate limits, breakers and client identity use a WaypointPolicy, for headers an HTTPRoute", advise: advised(adviseEnvoyFilter)},
	{groupNet, "Sidecar"}:         {versions: netVersions, note: "acts on sidecars only; a waypoint serves every client the same and needs none: remove it with the sidecars"},
	{groupNet, "ProxyConfig"}:     {versions: netVersions, note: "is read by istiod only, which starts waypoints with it", advise: advised(adviseProxyConfig)},
	{groupNet, "WorkloadGroup"}:   {versions: netVersions, note: byIstiod},

	{groupSecurity, "AuthorizationPolicy"}:   {versions: routeVersions, decode: strictly[AuthorizationPolicy]},
	{groupSecurity, "RequestAuthentication"}: {versions: routeVersions, decode: strictly[RequestAuthentication]},
	{groupSecurity, "PeerAuthentication"}:    {versions: routeVersions, note: "is enforced by ztunnel; a waypoint ignores it"},

	{"telemetry.istio.io", "Telemetry"}:                  {versions: []string{"v1", "v1alpha1"}, note: "is not read from files: metrics are Istio's, and the access log is switched on by a flag; under istiod it is honoured as translated", advise: advised(adviseTelemetry)},
	{"extensions.istio.io", "WasmPlugin"}:                {versions: []string{"v1alpha1"}, note: "is ignored: there is no Wasm here. Under istiod a chain with one that does not fail open answers 503 and names it", advise: advised(adviseWasm)},
	{"extensions.istio.io", "TrafficExtension"}:          {versions: []string{"v1alpha1"}, note: "is ignored: there is no Wasm or Lua here. Under istiod a chain with one that does not fail open answers 503 and names it", advise: advised(adviseWasm)},
	{groupOwn, "WaypointPolicy"}:                         {versions: []string{"v1alpha1"}, decode: strictly[WaypointPolicy]},
	{"", "ConfigMap"}:                                    {versions: []string{"v1"}, decode: decodeConfigMap, note: byOthers},
	{"", "Secret"}:                                       {versions: []string{"v1"}, note: byOthers},
	{"apps", "Deployment"}:                               {versions: []string{"v1"}, note: byOthers},
	{"apps", "StatefulSet"}:                              {versions: []string{"v1"}, note: byOthers},
	{"apps", "DaemonSet"}:                                {versions: []string{"v1"}, note: byOthers},
	{"apps", "ReplicaSet"}:                               {versions: []string{"v1"}, note: byOthers},
	{"batch", "Job"}:                                     {versions: []string{"v1"}, note: byOthers},
	{"batch", "CronJob"}:                                 {versions: []string{"v1"}, note: byOthers},
	{"policy", "PodDisruptionBudget"}:                    {versions: []string{"v1"}, note: byOthers},
	{"autoscaling", "HorizontalPodAutoscaler"}:           {versions: []string{"v2"}, note: byOthers},
	{"networking.k8s.io", "NetworkPolicy"}:               {versions: []string{"v1"}, note: byOthers},
	{"apiextensions.k8s.io", "CustomResourceDefinition"}: {versions: []string{"v1"}, cluster: true, note: byOthers},
}

// groupsOf are the groups that have a kind of that name.
func groupsOf(kind string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for k := range kinds {
			if k.kind == kind && !yield(k.group) {
				return
			}
		}
	}
}

// meant finds the kind that one that is not known differs from in capitals or its
// group only.
func meant(group, kind string) (best groupKind) {
	for k := range kinds {
		if strings.EqualFold(k.kind, kind) && (k.group == group || best.kind == "" || best.group != group && k.group < best.group) {
			best = k
		}
	}
	return best
}

// lenient decodes what it knows and ignores the rest, as clients of the API server do.
func lenient[T any](raw []byte) (any, error) {
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, Fields{{"", plain(err)}}
	}
	return v, nil
}

// body is a strictly decoded kind: fill applies the API server's defaults, check
// its validation.
type body[T any] interface {
	*T
	fill()
	check(r *report)
}

// strictly decodes a policy or route. It returns the body also when it is wrong:
// a route's sound rules still serve, and its parents get a status.
func strictly[T any, P body[T]](raw []byte) (any, error) {
	var doc struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   any    `json:"metadata"`
		Status     any    `json:"status"`
		Spec       T      `json:"spec"`
	}
	var r report
	strictDecode(raw, &doc, &r)
	p := P(&doc.Spec)
	p.fill()
	p.check(&r)
	if s, ok := any(p).(interface{ status(json.RawMessage) }); ok {
		var st struct {
			Status json.RawMessage `json:"status"`
		}
		if json.Unmarshal(raw, &st) == nil && len(st.Status) > 0 {
			s.status(st.Status)
		}
	}
	return p, r.err()
}
