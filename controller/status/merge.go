package status

import (
	"time"

	"waypoint.dev/waypoint/config/kube"
)

// entry is what this controller says of an object towards one parent or ancestor.
type entry struct {
	ref        map[string]any // parentRef or ancestorRef as it is written
	conditions []kube.Condition
}

// list says where entries stand in a status.
type list struct {
	field, ref string
	max        int // entries that the API admits
}

var (
	parents   = list{"parents", "parentRef", 32}     // Gateway API's RouteStatus
	ancestors = list{"ancestors", "ancestorRef", 16} // Gateway API's PolicyStatus
)

// merge returns the list of a status with this controller's entries replaced by
// those wanted and everyone else's as they stand. Where others fill the list, ours
// are left out from the end. same says that nothing has changed.
func (l list) merge(status map[string]any, controller string, want []entry, now time.Time) (out []any, same bool) {
	stands, _ := status[l.field].([]any)
	room := l.max
	for _, x := range stands {
		if !l.ours(x, controller) {
			room--
		}
	}
	if len(want) > room {
		want = want[:max(room, 0)]
	}
	same = true
	placed := make([]bool, len(want))
	out = make([]any, 0, len(stands)+len(want))
	for _, x := range stands {
		if !l.ours(x, controller) {
			out = append(out, x)
			continue
		}
		m := x.(map[string]any)
		at := -1
		for i := range want {
			if !placed[i] && sameRef(m[l.ref], want[i].ref) {
				at = i
				break
			}
		}
		if at < 0 {
			same = false // nothing is said of it any more
			continue
		}
		placed[at] = true
		had, _ := m["conditions"].([]any)
		now := conditions(want[at].conditions, had, now)
		if sameConditions(had, now) {
			out = append(out, x)
			continue
		}
		same = false
		out = append(out, l.entry(controller, want[at].ref, now))
	}
	for i := range want {
		if !placed[i] {
			same = false
			out = append(out, l.entry(controller, want[i].ref, conditions(want[i].conditions, nil, now)))
		}
	}
	return out, same
}

func (l list) entry(controller string, ref map[string]any, conditions []any) map[string]any {
	return map[string]any{l.ref: ref, "controllerName": controller, "conditions": conditions}
}

func (l list) ours(x any, controller string) bool {
	m, ok := x.(map[string]any)
	return ok && m["controllerName"] == controller
}

// sameRef compares references as the API server stores them, with its defaults.
func sameRef(a any, b map[string]any) bool {
	x, ok := a.(map[string]any)
	if !ok {
		return false
	}
	for _, k := range []string{"group", "kind", "namespace", "name", "sectionName"} {
		p, _ := x[k].(string)
		q, _ := b[k].(string)
		if p != q {
			return false
		}
	}
	return number(x["port"]) == number(b["port"])
}

// istioCondition is the type that Istio gives to what waypoints do with a policy.
const istioCondition = "WaypointAccepted"

// mergeIstio returns the conditions of an Istio policy with ours replaced. An empty
// want takes ours away.
func mergeIstio(status map[string]any, want []kube.Condition, now time.Time) (out []any, same bool) {
	stands, _ := status["conditions"].([]any)
	var had []any
	for _, x := range stands {
		if m, ok := x.(map[string]any); ok && m["type"] == istioCondition {
			had = append(had, x)
			continue
		}
		out = append(out, x)
	}
	mine := conditions(want, had, now)
	if sameConditions(had, mine) {
		return stands, true
	}
	return append(out, mine...), false
}
