package telemetry

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// record is an exchange with something in every field that formats read.
func record() *Record {
	return &Record{
		Start: time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC), Duration: 1500 * time.Millisecond, UpstreamTime: 12 * time.Millisecond,
		Version: "HTTP/1.1", Method: "GET", Path: "/pay?x=1", Authority: "cart", UserAgent: "curl", RequestID: "id-1", Forwarded: "10.0.0.9",
		Code: 404, GRPCStatus: -1, Flags: FlagNR, Details: "route_not_found", Received: 3, Sent: 4, Route: "default", Attempts: 2,
		Upstream: netip.MustParseAddrPort("10.1.1.1:8080"), UpstreamCluster: "inbound-vip|80|http|cart", MutualTLS: true,
		DownstreamLocal: netip.MustParseAddrPort("10.96.0.1:80"), Downstream: netip.MustParseAddrPort("10.1.1.9:4711"),
		Source: &Peer{Workload: "curl", Namespace: "clients", App: "curl", Principal: "spiffe://cluster.local/ns/clients/sa/curl"},
		Dest:   &Peer{Workload: "cart-v1", Namespace: "shop", App: "cart", Version: "v1"}, Service: &Service{Host: "cart.shop"},
		RequestHeaders:  []attrs.Field{{Name: "x-team", Value: "blue"}, {Name: "x-quote", Value: `a"b` + "\n"}},
		ResponseHeaders: []attrs.Field{{Name: "x-backend", Value: "b1"}},
	}
}

func TestPatterns(t *testing.T) {
	for _, x := range []struct{ format, want, unknown string }{
		{"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%", "GET /pay?x=1 HTTP/1.1", ""},
		{"%REQ(X-Team)% %REQ(X-None?X-Team):2% %REQ(x-none)%", "blue bl -", ""},
		{"%REQ(x-quote)%", `a\"b\u000a`, ""},
		{"%RESP(X-Backend)% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %RESP(a?x-backend)%", "b1 12 b1", ""},
		{"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DURATION% %BYTES_RECEIVED%/%BYTES_SENT%", "404 NR route_not_found 1500 3/4", ""},
		{"%UPSTREAM_HOST% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS%", "10.1.1.1:8080 inbound-vip|80|http|cart -", ""},
		{"%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT% %DOWNSTREAM_LOCAL_PORT%", "10.1.1.9:4711 10.1.1.9 4711 80", ""},
		{"%START_TIME%", "2026-03-04T05:06:07.089Z", ""},
		{"%START_TIME(%Y/%m/%dT%H:%M:%S.%3f)%", "2026/03/04T05:06:07.089", ""},
		{"%START_TIME(%s)%", "1772600767", ""},
		{"%FILTER_STATE(upstream_peer_obj:FIELD:version)% %FILTER_STATE(downstream_peer:FIELD:namespace)% %FILTER_STATE(io.istio.peer_principal)%", "v1 clients spiffe://cluster.local/ns/clients/sa/curl", ""},
		{"%CEL(request.headers['x-team'] + '!')% %CEL(response.code)%", "blue! 404", ""},
		{"100%% %GRPC_STATUS% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %DOWNSTREAM_PEER_URI_SAN%", "100% - 2 spiffe://cluster.local/ns/clients/sa/curl", ""},
		{"a %NOT_KNOWN(x)% b", "a - b", "%NOT_KNOWN(x)%"},
		{"%START_TIME(%Q)% %CEL(nonsense)%", "- -", "%START_TIME(%Q)% %CEL(nonsense)%"},
		{"50% of it", "50% of it", "% of it"},
	} {
		p, unknown := CompileText(x.format)
		if got := string(p.Append(nil, record())); got != x.want {
			t.Errorf("%s: %q, want %q", x.format, got, x.want)
		}
		if got := strings.Join(unknown, " "); got != x.unknown {
			t.Errorf("%s: unknown %q, want %q", x.format, got, x.unknown)
		}
		if want := strings.Contains(x.format, "backend") || strings.Contains(x.format, "Backend"); p.ReadsResponse() != want {
			t.Errorf("%s: reads the response: %v", x.format, !want)
		}
	}
	p, _ := CompileText("%REQ(x-quote)%")
	if got, ok := p.AppendRaw(nil, record()); string(got) != "a\"b\n" || !ok {
		t.Errorf("raw %q %v", got, ok)
	}
	if _, ok := p.AppendRaw(nil, &Record{}); ok {
		t.Error("a value that is not there is one")
	}
}

func TestJSONPatterns(t *testing.T) {
	p, unknown, err := CompileJSON(`{"code":"%RESPONSE_CODE%","b":"x %REQ(x-quote)% %REQ(none)%","none":"%REQ(none)%","team":"%REQ(X-TEAM)%","grpc":"%GRPC_STATUS_NUMBER%","n":{"list":["%DURATION%",true,null,1.5]},"w":"%WHAT%"}`)
	if err != nil || strings.Join(unknown, "") != "%WHAT%" {
		t.Fatal(unknown, err)
	}
	want := `{"b":"x a\"b\u000a -","code":404,"grpc":null,"n":{"list":[1500,true,null,1.5]},"none":null,"team":"blue","w":null}` + "\n"
	if got := string(p.Append(nil, record())); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, _, err := CompileJSON("[1]"); err == nil {
		t.Error("a list is no object")
	}
}

// TestPatternsDoNotAllocate holds for what requests write on the hot path.
func TestPatternsDoNotAllocate(t *testing.T) {
	p, _ := CompileText(`[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%" %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_HOST% %REQ(X-TEAM)%`)
	e, err := CompileExpression(`response.code >= 400 || request.url_path.startsWith('/pay')`)
	if err != nil {
		t.Fatal(err)
	}
	r, b := record(), make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		e.Holds(r)
		p.Append(b, r)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestExpressions(t *testing.T) {
	for text, want := range map[string]string{
		`response.code >= 400`:                                     "true",
		`response.code == 200`:                                     "false",
		`response.code > 1 && !(request.method == "POST")`:         "true",
		`request.url_path == '/pay' && request.path == "/pay?x=1"`: "true",
		`request.query.contains('x')`:                              "true",
		`request.headers['X-Team'] in ['red', 'blue']`:             "true",
		`'x-team' in request.headers`:                              "true",
		`'x-no' in request.headers`:                                "false",
		`has(request.headers['x-no'])`:                             "false",
		`has(request.headers['x-no']) ? 'a' : 'b'`:                 "b",
		`request.headers['x-no'] == 'x'`:                           "", // not there
		`request.headers['x-no'] == 'x' || response.code == 404`:   "true",
		`response.code == 404 || request.headers['x-no'] == 'x'`:   "true",
		`request.headers['x-no'] == 'x' && response.code == 200`:   "false",
		`request.duration > duration('1s')`:                        "true",
		`request.size + 1`:                                         "4",
		`response.size - 5`:                                        "-1",
		`-response.size`:                                           "-4",
		`string(destination.port) + ':' + request.host`:            "80:cart",
		`request.host.matches('^c.rt$')`:                           "true",
		`request.host.size()`:                                      "4",
		`size(request.host)`:                                       "4",
		`int('12') + 1`:                                            "13",
		`response.flags`:                                           "256", // 1 << NoRouteFound
		`connection.mtls`:                                          "true",
		`upstream_peer.app`:                                        "cart",
		`filter_state.downstream_peer.namespace`:                   "clients",
		`filter_state['wasm.upstream_peer'].version`:               "v1",
		`upstream_peer.labels['app'].value`:                        "cart",
		`response.headers['x-backend']`:                            "b1",
		`source.address`:                                           "10.1.1.9:4711",
		`upstream.port == 8080`:                                    "true",
		`response.grpc_status == 0`:                                "", // no call
		`response.code == '404'`:                                   "", // kinds that do not fit
		`xds.cluster_name`:                                         "inbound-vip|80|http|cart",
		`"a\"b" == 'a"b'`:                                          "true",
	} {
		e, err := CompileExpression(text)
		if err != nil {
			t.Error(err)
			continue
		}
		got, ok := e.append(nil, record())
		if string(got) != want || ok != (want != "") {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		if e.Holds(record()) != (want == "true") {
			t.Errorf("%s holds: %v", text, want != "true")
		}
	}
	for _, text := range []string{
		"", "response.cod", "request.headers", "request.headers[1]", "a b", "(response.code", "response.code ==", "foo(1)", "request.host.foo('x')",
		"'open", "request.host.matches('(')", "request.host.matches(request.path)", "has(1, 2)", "duration(1)", "1 in 2", "response.code # 1", "upstream_peer", "x.",
		strings.Repeat("(", 1000), strings.Repeat("!", 1000) + "true", strings.Repeat("[", 100), "'\\z'", "99999999999999999999",
	} {
		if _, err := CompileExpression(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func FuzzExpression(f *testing.F) {
	f.Add("response.code >= 400 || request.url_path.startsWith('/pay')")
	f.Add("has(request.headers['x']) ? string(-1 + 2) : filter_state.upstream_peer.app")
	f.Add("'a' in [request.host, \"b\"] && !connection.mtls")
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := CompileExpression(text); err == nil {
			e.Holds(record())
			e.Holds(&Record{})
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add(`%REQ(A?B):3% %START_TIME(%Y)% %% %CEL(request.host)%`)
	f.Add(`%FILTER_STATE(upstream_peer:FIELD:app)%%RESPONSE_CODE%`)
	f.Fuzz(func(t *testing.T, text string) {
		p, _ := CompileText(text)
		p.Append(nil, record())
		p.AppendRaw(nil, &Record{})
	})
}
