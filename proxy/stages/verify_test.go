package stages

import (
	"context"
	"testing"

	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

// A key made for this test, and a token that it signed, valid until the year 2100.
const (
	testKeys  = `{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "example", "x": "gJsJ_CKhhq5evHm9H5Lpg_2q1BIR5QpIcL57PvaZwAw", "y": "GIuyH31vE-koE3Ov2lFx-0mzOLfzc7jrPI3L1Nz3MMg"}]}`
	testToken = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImV4YW1wbGUiLCJ0eXAiOiJKV1QifQ.eyJhdWQiOiJjYXJ0IiwiZXhwIjo0MTAyNDQ0ODAwLCJncm91cHMiOlsiYWRtaW5zIl0sImlzcyI6Imh0dHBzOi8vaXNzdWVyLmV4YW1wbGUiLCJzdWIiOiJhbGljZSJ9.Zb0VgZ3Nd5TTBAyE3yCuhkD_vHjXVaN6rq1Q2cy6IZAUn3jKBwxRDBq34MoQ-I6tOXnV39mfk0UdU-Jd15v8vA"
)

// known returns the verifier of a provider that has seen the token of r.
func known(t testing.TB) (*verifier, *attrs.Request) {
	t.Helper()
	s := New(Options{Store: new(config.Store)})
	t.Cleanup(s.Close)
	v, err := s.verifier(&jwt.Config{
		Providers: []jwt.Provider{{Name: "p", Issuer: "https://issuer.example", Audiences: []string{"cart"}, JWKS: testKeys,
			PayloadHeader: "x-payload", ClaimHeaders: []jwt.ClaimHeader{{Header: "x-user", Claim: "sub"}}}},
		Require: jwt.OptionalAny("p"), BypassCORSPreflight: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &attrs.Request{Method: "GET", Path: "/", Headers: []attrs.Field{{Name: "x-user", Value: "forged"}, {Name: "authorization", Value: "Bearer " + testToken}}}
	return v, r
}

func verify(t testing.TB, v *verifier, r *attrs.Request) {
	out := v.Verify(context.Background(), r)
	if !out.Allow || out.Claims == nil || out.Claims.Subject != "alice" || len(out.Add) != 2 || len(out.Remove) != 3 {
		t.Fatalf("%+v", out)
	}
	out.Hold.Release()
}

func BenchmarkVerifyKnownToken(b *testing.B) {
	v, r := known(b)
	verify(b, v, r)
	b.ReportAllocs()
	for b.Loop() {
		verify(b, v, r)
	}
}
