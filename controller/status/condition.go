package status

import (
	"time"

	"waypoint.dev/waypoint/config/kube"
)

// conditions turns conditions into their JSON form. A condition keeps the time of
// the one that stands if its status is the same.
func conditions(want []kube.Condition, stands []any, now time.Time) []any {
	out := make([]any, 0, len(want))
	for _, c := range want {
		m := map[string]any{
			"type": c.Type, "status": text(c.Status), "reason": c.Reason, "message": clip(c.Message),
			"observedGeneration": c.ObservedGeneration, "lastTransitionTime": now.UTC().Format(time.RFC3339),
		}
		for _, x := range stands {
			if h, ok := x.(map[string]any); ok && h["type"] == m["type"] && h["status"] == m["status"] {
				if t, ok := h["lastTransitionTime"].(string); ok && t != "" {
					m["lastTransitionTime"] = t
				}
			}
		}
		out = append(out, m)
	}
	return out
}

func text(ok bool) string {
	if ok {
		return "True"
	}
	return "False"
}

// maxMessage is the API's limit for a condition's message (metav1.Condition).
const maxMessage = 32768

func clip(s string) string {
	if len(s) > maxMessage {
		return s[:maxMessage]
	}
	return s
}

// sameConditions reports whether conditions say the same, whatever their times.
func sameConditions(stands, want []any) bool {
	if len(stands) != len(want) {
		return false
	}
	for _, w := range want {
		found := false
		for _, h := range stands {
			found = found || sameCondition(h, w)
		}
		if !found {
			return false
		}
	}
	return true
}

func sameCondition(a, b any) bool {
	x, ok := a.(map[string]any)
	y, ok2 := b.(map[string]any)
	if !ok || !ok2 {
		return false
	}
	for _, k := range []string{"type", "status", "reason", "message"} {
		if x[k] != y[k] {
			return false
		}
	}
	return number(x["observedGeneration"]) == number(y["observedGeneration"])
}

// number reads an integer of decoded JSON, whichever type the decoder chose.
func number(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	case int32:
		return int64(n)
	case int:
		return int64(n)
	}
	return 0
}
