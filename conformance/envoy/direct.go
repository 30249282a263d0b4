package envoy

import (
	"errors"
	"strings"
)

// directName is the listener for clients whose address shall be seen.
const directName = "direct"

var errNoListener = errors.New("envoy: the resources have no connect_terminate or no main_internal")

// directListener is main_internal once more, on a socket. Connections to
// main_internal come from connect_terminate, so there Envoy's direct_remote_ip is
// no address and rules of ipBlocks never match. Here a client connects with TLS
// and its certificate from its own address; a PROXY header names the destination,
// by which the same chains are chosen, and what connect_terminate would say of the
// peer is said by the first filter of each chain.
func directListener(listeners []any, address string) (Object, error) {
	var internal, terminate Object
	for _, l := range listeners {
		switch o := l.(Object); str(o["name"]) {
		case "main_internal":
			internal = clone(o)
		case "connect_terminate":
			terminate = clone(o)
		}
	}
	socket := get(terminate, "filter_chains", 0, "transport_socket")
	if socket == nil || internal == nil {
		return nil, errNoListener
	}
	for _, c := range list(internal["filter_chains"]) {
		chain := c.(Object)
		chain["transport_socket"] = socket
		http := false
		for _, f := range list(chain["filters"]) {
			h, ok := get(f, "typed_config").(Object)
			if !ok || !strings.HasSuffix(str(h["@type"]), "v3.HttpConnectionManager") {
				continue
			}
			http = true
			h["codec_type"] = "HTTP1" // the certificate's ALPN is that of tunnels
			h["http_filters"] = append([]any{peerState("http", "on_request_headers")}, list(h["http_filters"])...)
		}
		if !http {
			chain["filters"] = append([]any{peerState("network", "on_downstream_tls_handshake")}, list(chain["filters"])...)
		}
	}
	delete(internal, "internal_listener")
	internal["name"] = directName
	internal["address"] = Object{"socket_address": Object{"address": address, "port_value": 0}}
	internal["listener_filters"] = []any{Object{"name": "envoy.filters.listener.proxy_protocol", "typed_config": typed("extensions.filters.listener.proxy_protocol.v3.ProxyProtocol")}}
	return internal, nil
}

// peerState tells a chain who its client is, under the name that connect_terminate uses.
func peerState(kind, when string) Object {
	f := typed("extensions.filters." + kind + ".set_filter_state.v3.Config")
	f[when] = []any{Object{
		"object_key": "io.istio.peer_principal", "factory_key": "envoy.string",
		"format_string": Object{"text_format_source": Object{"inline_string": "%DOWNSTREAM_PEER_URI_SAN%"}},
	}}
	return Object{"name": "peer", "typed_config": f}
}
