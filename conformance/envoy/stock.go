package envoy

import (
	"fmt"
	"slices"
	"strings"
)

// StockOptions are what a bootstrap needs beside the resources.
type StockOptions struct {
	Dir        string // of cert.pem, key.pem and roots.pem
	Address    string // where connect_terminate listens, on a free port
	AccessLog  string // file; empty: no access log
	GenerateID bool   // leave generate_request_id on, as istiod has it
	Direct     bool   // add a listener for clients whose address shall be seen
}

// Stock turns istiod's resources into the static bootstrap of an Envoy that has
// no Istio extensions. What it replaces, and nothing else:
//
//   - the factory istio.hashable_string of filter state becomes envoy.string, so
//     that principals still resolve;
//   - peer metadata, metadata exchange and Istio's statistics are left out;
//   - secrets come from files, endpoints stand in their clusters;
//   - connect_terminate listens on a free loopback port.
func Stock(r *Resources, o StockOptions) (Object, error) {
	r = clone(r)
	eds := map[string]Object{}
	for _, e := range r.Endpoints {
		eds[str(e["cluster_name"])] = e
	}
	var clusters, listeners []any
	for _, c := range r.Clusters {
		if c["type"] == "EDS" {
			name := str(get(c, "eds_cluster_config", "service_name"))
			c["type"] = "STATIC"
			delete(c, "eds_cluster_config")
			if e := eds[name]; e != nil {
				c["load_assignment"] = e
			} else {
				c["load_assignment"] = Object{"cluster_name": name}
			}
		}
		delete(c, "filters")
		clusters = append(clusters, c)
	}
	for _, l := range r.Listeners {
		if get(l, "address", "socket_address") != nil {
			l["address"] = Object{"socket_address": Object{"address": o.Address, "port_value": 0}}
			delete(l, "additional_addresses")
		}
		listeners = append(listeners, l)
	}
	if o.Direct {
		l, err := directListener(listeners, o.Address)
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
	}
	all := []any{clusters, listeners}
	files(all, o.Dir)
	walk(all, func(v Object) {
		if v["factory_key"] == "istio.hashable_string" {
			v["factory_key"] = "envoy.string"
		}
		for _, k := range []string{"filters", "http_filters"} {
			if l, ok := v[k].([]any); ok {
				v[k] = slices.DeleteFunc(l, istioOnly)
			}
		}
		if strings.HasSuffix(str(v["@type"]), "v3.HttpConnectionManager") {
			delete(v, "tracing") // its tags read Istio's peer objects
			if !o.GenerateID {
				v["generate_request_id"] = false
			}
			if o.AccessLog != "" {
				v["access_log"] = []any{accessLog(o.AccessLog)}
			}
		}
	})
	return Object{
		"node":                 Object{"id": "waypoint", "cluster": "waypoint"},
		"bootstrap_extensions": []any{Object{"name": "envoy.bootstrap.internal_listener", "typed_config": typed("extensions.bootstrap.internal_listener.v3.InternalListener")}},
		"static_resources":     Object{"listeners": listeners, "clusters": clusters},
		"admin":                Object{"address": Object{"socket_address": Object{"address": o.Address, "port_value": 0}}},
		// The runtime flags of Istio's bootstrap that decide about requests.
		"layered_runtime": Object{"layers": []any{Object{"name": "istio", "static_layer": Object{
			"envoy.reloadable_features.http_reject_path_with_fragment": false,
			"re2.max_program_size.error_level":                         32768,
		}}}},
	}, nil
}

func typed(name string) Object { return Object{"@type": "type.googleapis.com/envoy." + name} }

// istioOnly reports filters that only Istio's build has and that decide nothing.
func istioOnly(f any) bool {
	url := str(get(f, "typed_config", "@type"))
	return strings.HasSuffix(url, "udpa.type.v1.TypedStruct") || strings.HasSuffix(url, "/stats.PluginConfig")
}

func accessLog(path string) Object {
	l := typed("extensions.access_loggers.file.v3.FileAccessLog")
	l["path"] = path
	l["log_format"] = Object{"text_format_source": Object{"inline_string": "%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS% %ROUTE_NAME% %UPSTREAM_CLUSTER%\n"}}
	return Object{"name": "envoy.access_loggers.file", "typed_config": l}
}

// files replaces secrets of a discovery service by files.
func files(v any, dir string) {
	walk(v, func(c Object) {
		if _, ok := c["tls_certificate_sds_secret_configs"]; ok {
			delete(c, "tls_certificate_sds_secret_configs")
			c["tls_certificates"] = []any{Object{"certificate_chain": file(dir, "cert.pem"), "private_key": file(dir, "key.pem")}}
		}
		if comb, ok := c["combined_validation_context"].(Object); ok {
			vc, _ := comb["default_validation_context"].(Object)
			if vc == nil {
				vc = Object{}
			}
			vc["trusted_ca"] = file(dir, "roots.pem")
			c["validation_context"] = vc
			delete(c, "combined_validation_context")
		}
	})
}

func file(dir, name string) Object { return Object{"filename": dir + "/" + name} }

// mustBeStock names what of a bootstrap an Envoy without Istio's filters lacks.
func mustBeStock(boot Object) error {
	var err error
	walk(boot, func(o Object) {
		if u := str(o["@type"]); strings.Contains(u, "istio") {
			err = fmt.Errorf("envoy: %s is not in a stock Envoy", u)
		}
	})
	return err
}
