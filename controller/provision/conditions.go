package provision

import (
	"encoding/json"
	"reflect"
	"time"
)

// condition is one Kubernetes condition.
type condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	Reason             string `json:"reason"`
	Message            string `json:"message"`
	ObservedGeneration int64  `json:"observedGeneration"`
	LastTransitionTime string `json:"lastTransitionTime"`
}

func is(typ string, ok bool, reason, message string, generation int64) condition {
	status := "False"
	if ok {
		status = "True"
	}
	return condition{Type: typ, Status: status, Reason: reason, Message: message, ObservedGeneration: generation}
}

// since gives each condition the time at which its status last changed.
func since(now time.Time, have, want []condition) {
	for i := range want {
		want[i].LastTransitionTime = now.UTC().Format(time.RFC3339)
		for _, c := range have {
			if c.Type == want[i].Type && c.Status == want[i].Status && c.LastTransitionTime != "" {
				want[i].LastTransitionTime = c.LastTransitionTime
			}
		}
	}
}

// within reports whether each wanted condition stands among those that are there.
func within(have, want []condition) bool {
	for _, w := range want {
		found := false
		for _, h := range have {
			found = found || h == w
		}
		if !found {
			return false
		}
	}
	return true
}

// gatewayStatus is the status of a Gateway of ours.
type gatewayStatus struct {
	Addresses  []address        `json:"addresses,omitempty"`
	Conditions []condition      `json:"conditions"`
	Listeners  []listenerStatus `json:"listeners"`
}

type address struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type listenerStatus struct {
	Name           string      `json:"name"`
	SupportedKinds []RouteKind `json:"supportedKinds"`
	AttachedRoutes int32       `json:"attachedRoutes"`
	Conditions     []condition `json:"conditions"`
}

// settle fills in the times and reports whether the status that stands says the
// same already.
func (want *gatewayStatus) settle(now time.Time, stands json.RawMessage) bool {
	var have gatewayStatus
	if len(stands) > 0 && json.Unmarshal(stands, &have) != nil {
		have = gatewayStatus{}
	}
	since(now, have.Conditions, want.Conditions)
	same := within(have.Conditions, want.Conditions) && len(have.Listeners) == len(want.Listeners) &&
		(len(have.Addresses) == 0 && len(want.Addresses) == 0 || reflect.DeepEqual(have.Addresses, want.Addresses))
	for i := range want.Listeners {
		w := &want.Listeners[i]
		var h listenerStatus
		for _, x := range have.Listeners {
			if x.Name == w.Name {
				h = x
			}
		}
		since(now, h.Conditions, w.Conditions)
		same = same && h.AttachedRoutes == w.AttachedRoutes && within(h.Conditions, w.Conditions) && sameKinds(h.SupportedKinds, w.SupportedKinds)
	}
	return same
}

func sameKinds(a, b []RouteKind) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Kind != b[i].Kind {
			return false
		}
	}
	return true
}
