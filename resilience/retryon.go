package resilience

import (
	"slices"
	"strconv"
	"strings"
)

// tokens are Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on names, which
// Istio's retryOn shares. http3-post-connect-failure is known but cannot happen.
var tokens = []struct {
	name string
	on   RetryOn
}{
	{"5xx", On5xx},
	{"gateway-error", OnGatewayError},
	{"reset", OnReset},
	{"reset-before-request", OnResetBeforeRequest},
	{"connect-failure", OnConnectFailure},
	{"refused-stream", OnRefusedStream},
	{"retriable-4xx", OnRetriable4xx},
	{"retriable-status-codes", OnStatusCodes},
	{"retriable-headers", OnHeaders},
	{"envoy-ratelimited", OnEnvoyRatelimited},
	{"http3-post-connect-failure", 0},
	{"cancelled", OnCancelled},
	{"deadline-exceeded", OnDeadlineExceeded},
	{"internal", OnInternal},
	{"resource-exhausted", OnResourceExhausted},
	{"unavailable", OnUnavailable},
}

// ParseRetryOn reads a comma separated list of tokens as Istio and Envoy write
// them. Bare numbers from 100 to 599 are status codes and imply
// retriable-status-codes. Tokens that mean nothing come back in unknown, for a
// warning: Istio rejects them, Envoy ignores them.
func ParseRetryOn(s string) (on RetryOn, codes []int, unknown []string) {
next:
	for t := range strings.SplitSeq(s, ",") {
		t = strings.TrimSpace(t)
		if t == "" {
			continue
		}
		for i := range tokens {
			if tokens[i].name == t {
				on |= tokens[i].on
				continue next
			}
		}
		if n, err := strconv.Atoi(t); err == nil && len(t) == 3 && n >= 100 && n <= 599 {
			on |= OnStatusCodes
			if !slices.Contains(codes, n) {
				codes = append(codes, n)
			}
			continue
		}
		unknown = append(unknown, t)
	}
	return on, codes, unknown
}

// String lists the tokens as ParseRetryOn reads them.
func (o RetryOn) String() string {
	var b strings.Builder
	for i := range tokens {
		if t := &tokens[i]; t.on != 0 && o&t.on != 0 {
			if b.Len() > 0 {
				b.WriteByte(',')
			}
			b.WriteString(t.name)
		}
	}
	return b.String()
}
