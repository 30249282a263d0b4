package resilience

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/internal/attrs"
)

func TestParseRetryOn(t *testing.T) {
	for _, c := range []struct {
		in      string
		on      RetryOn
		codes   []int
		unknown []string
	}{
		{"", 0, nil, nil},
		{"5xx", On5xx, nil, nil},
		{"connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
			OnConnectFailure | OnRefusedStream | OnUnavailable | OnCancelled | OnStatusCodes, nil, nil},
		{" gateway-error , reset,reset-before-request ,", OnGatewayError | OnReset | OnResetBeforeRequest, nil, nil},
		{"connect-failure,refused-stream,unavailable,cancelled,503", OnConnectFailure | OnRefusedStream | OnUnavailable | OnCancelled | OnStatusCodes, []int{503}, nil},
		{"503,429,503", OnStatusCodes, []int{503, 429}, nil},
		{"retriable-4xx,retriable-headers,envoy-ratelimited", OnRetriable4xx | OnHeaders | OnEnvoyRatelimited, nil, nil},
		{"deadline-exceeded,internal,resource-exhausted", OnDeadlineExceeded | OnInternal | OnResourceExhausted, nil, nil},
		{"http3-post-connect-failure,reset", OnReset, nil, nil},
		{"5XX,99,600,0503,x", 0, nil, []string{"5XX", "99", "600", "0503", "x"}},
	} {
		on, codes, unknown := ParseRetryOn(c.in)
		if on != c.on || !slices.Equal(codes, c.codes) || !slices.Equal(unknown, c.unknown) {
			t.Errorf("%q: %v %v %q, want %v %v %q", c.in, on, codes, unknown, c.on, c.codes, c.unknown)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		on := RetryOn(rapid.Uint32Range(0, uint32(OnUnavailable)<<1-1).Draw(t, "on"))
		if back, _, unknown := ParseRetryOn(on.String()); back != on || unknown != nil {
			t.Fatalf("%q reads as %q, unknown %q", on, back, unknown)
		}
	})
}

// TestVerdict goes through the table of retry_on tokens: for each outcome the
// tokens that retry it. Any other token alone must not.
func TestVerdict(t *testing.T) {
	limited := []attrs.Field{{Name: "x-envoy-ratelimited", Value: "true"}}
	again := []attrs.Field{{Name: "content-length", Value: "0"}, {Name: "x-again", Value: ""}}
	reset := OnReset | On5xx | OnGatewayError
	for _, c := range []struct {
		name string
		o    Outcome
		by   RetryOn
	}{
		{"200", Outcome{Status: 200}, 0},
		{"404", Outcome{Status: 404}, 0},
		{"409", Outcome{Status: 409}, OnRetriable4xx},
		{"429 listed", Outcome{Status: 429}, OnStatusCodes},
		{"500", Outcome{Status: 500}, On5xx},
		{"501", Outcome{Status: 501}, On5xx},
		{"502", Outcome{Status: 502}, On5xx | OnGatewayError},
		{"503", Outcome{Status: 503}, On5xx | OnGatewayError},
		{"504", Outcome{Status: 504}, On5xx | OnGatewayError},
		{"505", Outcome{Status: 505}, On5xx},
		{"599", Outcome{Status: 599}, On5xx},
		{"600", Outcome{Status: 600}, 0},
		{"retriable header", Outcome{Status: 200, Headers: again}, OnHeaders},
		{"ratelimited 429", Outcome{Status: 429, Headers: limited}, OnEnvoyRatelimited},
		{"ratelimited 503", Outcome{Status: 503, Headers: limited}, OnEnvoyRatelimited},
		{"grpc ok", Outcome{Status: 200, GRPC: "0"}, 0},
		{"grpc cancelled", Outcome{Status: 200, GRPC: "1"}, OnCancelled},
		{"grpc unknown", Outcome{Status: 200, GRPC: "2"}, 0},
		{"grpc deadline", Outcome{Status: 200, GRPC: "4"}, OnDeadlineExceeded},
		{"grpc exhausted", Outcome{Status: 200, GRPC: "8"}, OnResourceExhausted},
		{"grpc internal", Outcome{Status: 200, GRPC: "13"}, OnInternal},
		{"grpc unavailable", Outcome{Status: 200, GRPC: "14"}, OnUnavailable},
		{"grpc nonsense", Outcome{Status: 200, GRPC: "x"}, 0},
		{"connect failure", Outcome{Failure: FailureConnect, Untouched: true}, reset | OnConnectFailure | OnResetBeforeRequest},
		{"refused before anything was sent", Outcome{Failure: FailureRefused, Untouched: true}, reset | OnRefusedStream | OnResetBeforeRequest},
		{"refused", Outcome{Failure: FailureRefused}, reset | OnRefusedStream},
		{"reset before request", Outcome{Failure: FailureReset, Untouched: true}, reset | OnResetBeforeRequest | OnConnectFailure},
		{"reset", Outcome{Failure: FailureReset}, reset},
		{"protocol error", Outcome{Failure: FailureProtocol}, reset},
		{"per-try timeout", Outcome{Failure: FailureTryTimeout}, reset},
		{"overflow", Outcome{Failure: FailureOverflow, Untouched: true}, 0},
		{"route timeout", Outcome{Failure: FailureTimeout}, 0},
		{"client gone", Outcome{Failure: FailureClient}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for bit := On5xx; bit <= OnUnavailable; bit <<= 1 {
				r := &Retry{Attempts: 1, On: bit, Codes: []int{429, 418}, Headers: []string{"x-again"}}
				v := r.Verdict(&c.o, 0)
				if v.Retry != (c.by&bit != 0) {
					t.Errorf("with %s: %+v", bit, v)
				}
				if v.Retry && v.Reason != bit.String() {
					t.Errorf("with %s the reason is %s", bit, v.Reason)
				}
				if v.Retry && r.Verdict(&c.o, 1) != (Verdict{false, ReasonExhausted}) {
					t.Errorf("with %s: a second retry of one", bit)
				}
				r.Attempts = 0
				if r.Verdict(&c.o, 0).Retry {
					t.Errorf("with %s: retried with attempts 0", bit)
				}
			}
		})
	}
}

// TestDefaultRetry: what never reached an app, and nothing else of HTTP.
func TestDefaultRetry(t *testing.T) {
	var unset *Retry
	for _, c := range []struct {
		o    Outcome
		want string // reason; empty: not retried
	}{
		{Outcome{Failure: FailureConnect, Untouched: true}, "connect-failure"},
		{Outcome{Failure: FailureRefused}, "refused-stream"},
		{Outcome{Status: 200, GRPC: "14"}, "unavailable"},
		{Outcome{Status: 200, GRPC: "1"}, "cancelled"},
		{Outcome{Status: 503}, ""},
		{Outcome{Status: 500}, ""},
		{Outcome{Failure: FailureReset}, ""},
		{Outcome{Failure: FailureReset, Untouched: true}, "connect-failure"},
		{Outcome{Failure: FailureTryTimeout}, ""},
	} {
		v := unset.Verdict(&c.o, 1)
		if v.Retry != (c.want != "") || v.Retry && v.Reason != c.want {
			t.Errorf("%+v: %+v, want %q", c.o, v, c.want)
		}
		if unset.Verdict(&c.o, 2).Retry {
			t.Errorf("%+v: a third retry", c.o)
		}
	}
	if d := DefaultRetry(); d.Attempts != 2 || !d.AvoidPrevious || d.Codes != nil {
		t.Errorf("default %+v", d)
	}
	for _, c := range []struct {
		o    Outcome
		want string
	}{
		{Outcome{Failure: FailureOverflow}, ReasonOverflow}, {Outcome{Failure: FailureTimeout}, ReasonTimeout},
		{Outcome{Failure: FailureClient}, ReasonClient}, {Outcome{Status: 200}, ReasonNoMatch},
		{Outcome{Status: 503, Headers: []attrs.Field{{Name: "x-envoy-ratelimited"}}}, ReasonRatelimited},
	} {
		if v := unset.Verdict(&c.o, 0); v != (Verdict{false, c.want}) {
			t.Errorf("%+v: %+v, want %s", c.o, v, c.want)
		}
	}
	if v := (&Retry{On: On5xx}).Verdict(&Outcome{Status: 500}, 0); v != (Verdict{false, ReasonOff}) {
		t.Errorf("attempts 0: %+v", v)
	}
}

func TestDelay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		r    *Retry
		n    int
		upto time.Duration
	}{
		{nil, 1, 25 * time.Millisecond},
		{nil, 2, 50 * time.Millisecond},
		{nil, 3, 100 * time.Millisecond},
		{nil, 4, 200 * time.Millisecond},
		{nil, 5, 250 * time.Millisecond},
		{nil, 1000, 250 * time.Millisecond},
		{&Retry{Backoff: time.Second}, 1, time.Second},
		{&Retry{Backoff: time.Second}, 9, 10 * time.Second},
		{&Retry{Backoff: time.Second, MaxBackoff: 3 * time.Second}, 3, 3 * time.Second},
		{&Retry{Backoff: time.Second, MaxBackoff: time.Millisecond}, 1, time.Millisecond},
	} {
		low, high := c.upto, time.Duration(0)
		for range 5000 {
			d := c.r.Delay(c.n, random.Uint64())
			if d < 0 || d >= c.upto {
				t.Fatalf("retry %d of %+v: %v, want under %v", c.n, c.r, d, c.upto)
			}
			low, high = min(low, d), max(high, d)
		}
		if low > c.upto/100 || high < c.upto*99/100 {
			t.Errorf("retry %d of %+v: only %v..%v of 0..%v", c.n, c.r, low, high, c.upto)
		}
	}
}

func TestTryTimeoutAndShift(t *testing.T) {
	for _, c := range []struct{ try, route, want time.Duration }{
		{0, 0, 0}, {1, 0, 1}, {1, 2, 1}, {2, 2, 0}, {3, 2, 0},
	} {
		if got := (&Retry{TryTimeout: c.try}).EffectiveTryTimeout(c.route); got != c.want {
			t.Errorf("try %d of route %d: %d, want %d", c.try, c.route, got, c.want)
		}
	}
	var got []int
	for tried := range 6 {
		got = append(got, (&Retry{RemoteLocalities: 2}).Shift(tried))
	}
	if !slices.Equal(got, []int{0, 0, 2, 2, 4, 4}) || (*Retry)(nil).Shift(5) != 0 {
		t.Errorf("shifts %v", got)
	}
}

func TestGRPCToHTTP(t *testing.T) {
	want := []int{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}
	for code, status := range want {
		s := string(rune('0' + code%10))
		if code > 9 {
			s = "1" + s
		}
		if got := GRPCToHTTP(s); got != status {
			t.Errorf("grpc-status %s: %d, want %d", s, got, status)
		}
	}
	if GRPCToHTTP("x") != 500 || GRPCToHTTP("17") != 500 {
		t.Error("an unknown status is no error")
	}
}
