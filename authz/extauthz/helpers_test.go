package extauthz

import (
	"net/netip"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func socket(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// FuzzAnswer: no bytes that decode as an answer make a header that cannot be
// sent, and none allow without a status or an ok response.
func FuzzAnswer(f *testing.F) {
	for _, m := range []proto.Message{
		&authv3.CheckResponse{}, allow(nil),
		allow(&authv3.OkHttpResponse{HeadersToRemove: []string{"a"}, Headers: []*corev3.HeaderValueOption{option("x", "y\n", nil)}}),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var resp authv3.CheckResponse
		if proto.Unmarshal(b, &resp) != nil {
			return
		}
		o, err := outcomeOf(&resp)
		if err != nil {
			return
		}
		if o.Pass() && (resp.GetStatus().GetCode() != 0 || resp.GetStatus() == nil && resp.GetOkResponse() == nil) {
			t.Fatalf("allowed by %v", &resp)
		}
		if !o.Pass() && (o.Status < 200 || o.Status > 599) {
			t.Fatalf("denied with %d", o.Status)
		}
		for _, es := range [][]Edit{o.Request, o.Response, o.Headers} {
			for _, e := range es {
				if !validName(e.Name) || !validValue(e.Value) || hopByHop(e.Name) {
					t.Fatalf("edit %q: %q", e.Name, e.Value)
				}
			}
		}
	})
}
