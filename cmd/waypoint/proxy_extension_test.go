package main

import (
	"net/http"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config/istiod"
)

// denyHeader is a filter that denies requests with a header.
func denyHeader(t *testing.T, name string) *anypb.Any {
	a, err := anypb.New(&httprbacv3.RBAC{Rules: &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{"ns[shop]-policy[ext]-rule[0]": {
		Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Header{Header: &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}}}},
		Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestProxyExtensions serves a chain with a filter that is configured apart: closed
// before the configuration comes, then as it says, and as it says anew.
func TestProxyExtensions(t *testing.T) {
	const ext = "extensions.istio.io/trafficextension/shop.guard"
	r := prepareMesh(t, "01-basic", time.Hour)
	edit(r, istiod.ListenerType, "main_internal", &listenerv3.Listener{}, func(l *listenerv3.Listener) {
		for _, fc := range l.FilterChains {
			if fc.Name != cartCluster {
				continue
			}
			last := fc.Filters[len(fc.Filters)-1]
			var h hcmv3.HttpConnectionManager
			if err := last.GetTypedConfig().UnmarshalTo(&h); err != nil {
				t.Fatal(err)
			}
			h.HttpFilters = slices.Insert(h.HttpFilters, 0, &hcmv3.HttpFilter{Name: ext, ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
				ConfigSource: &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}},
				TypeUrls:     []string{"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"},
			}}})
			a, err := anypb.New(&h)
			if err != nil {
				t.Fatal(err)
			}
			last.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: a}
		}
	})
	r.startProxy()
	ask := func(header string) int {
		req, err := http.NewRequest("GET", "http://"+r.front.Addr().String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set(header, "1")
		}
		res, err := r.http.Do(req)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	r.eventually("the extension is asked for", func() bool { return slices.Contains(r.istiod.Subscribed(istiod.ExtensionType), ext) })
	if c := ask(""); c != 503 {
		t.Errorf("before it came: %d", c)
	}
	push := func(header string) {
		r.pushAny(istiod.ExtensionType, ext, &corev3.TypedExtensionConfig{Name: ext, TypedConfig: denyHeader(t, header)})
	}
	push("x-first")
	r.eventually("the first version decides", func() bool { return ask("") == 200 && ask("x-first") == 403 && ask("x-second") == 200 })
	push("x-second")
	r.eventually("the second version decides", func() bool { return ask("") == 200 && ask("x-first") == 200 && ask("x-second") == 403 })
	if err := r.istiod.GoAway(); err != nil {
		t.Fatal(err)
	}
	r.eventually("it is asked for on the next stream", func() bool { return slices.Contains(r.istiod.Subscribed(istiod.ExtensionType), ext) })
	if ask("") != 200 || ask("x-second") != 403 {
		t.Error("the new stream changed what decides")
	}
}
