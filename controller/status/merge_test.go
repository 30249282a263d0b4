package status

import (
	"encoding/json"
	"testing"
	"time"

	"waypoint.dev/waypoint/config/kube"
)

const us = "waypoint.dev/gateway-controller"

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func cond(ok bool, reason string, generation int64) kube.Condition {
	return kube.Condition{Type: "Accepted", Status: ok, Reason: reason, Message: "m", ObservedGeneration: generation}
}

func service(name string) map[string]any {
	return map[string]any{"group": "", "kind": "Service", "name": name}
}

func parse(t *testing.T, s string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	theirs = `{"parentRef":{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"edge"},"controllerName":"example.com/edge","conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","lastTransitionTime":"2025-01-01T00:00:00Z","observedGeneration":1}]}`
	ours   = `{"parentRef":{"group":"","kind":"Service","name":"web"},"controllerName":"waypoint.dev/gateway-controller","conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"m","lastTransitionTime":"2025-01-01T00:00:00Z","observedGeneration":1}]}`
	fresh  = `{"parentRef":{"group":"","kind":"Service","name":"web"},"controllerName":"waypoint.dev/gateway-controller","conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"m","lastTransitionTime":"2026-01-01T12:00:00Z","observedGeneration":1}]}`
	newer  = `{"parentRef":{"group":"","kind":"Service","name":"web"},"controllerName":"waypoint.dev/gateway-controller","conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"m","lastTransitionTime":"2025-01-01T00:00:00Z","observedGeneration":2}]}`
	turned = `{"parentRef":{"group":"","kind":"Service","name":"web"},"controllerName":"waypoint.dev/gateway-controller","conditions":[{"type":"Accepted","status":"False","reason":"NoMatchingParent","message":"m","lastTransitionTime":"2026-01-01T12:00:00Z","observedGeneration":1}]}`
	port   = `{"parentRef":{"group":"","kind":"Service","name":"web","port":80},"controllerName":"waypoint.dev/gateway-controller","conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"m","lastTransitionTime":"2026-01-01T12:00:00Z","observedGeneration":1}]}`
)

func TestMergeParents(t *testing.T) {
	accepted := []kube.Condition{cond(true, "Accepted", 1)}
	web := []entry{{service("web"), accepted}}
	withPort := service("web")
	withPort["port"] = int64(80)
	for _, c := range []struct {
		name, stands string
		want         []entry
		out          string
		same         bool
	}{
		{"nothing stands, nothing to say", `{}`, nil, `[]`, true},
		{"the first entry", `{}`, web, `[` + fresh + `]`, false},
		{"others' entries stay where they are", `{"parents":[` + theirs + `]}`, web, `[` + theirs + `,` + fresh + `]`, false},
		{"it stands already", `{"parents":[` + ours + `,` + theirs + `]}`, web, `[` + ours + `,` + theirs + `]`, true},
		{"a new generation keeps the time", `{"parents":[` + ours + `]}`, []entry{{service("web"), []kube.Condition{cond(true, "Accepted", 2)}}}, `[` + newer + `]`, false},
		{"a new status has a new time", `{"parents":[` + ours + `]}`, []entry{{service("web"), []kube.Condition{cond(false, "NoMatchingParent", 1)}}}, `[` + turned + `]`, false},
		{"what is not ours any more goes", `{"parents":[` + ours + `,` + theirs + `]}`, nil, `[` + theirs + `]`, false},
		{"a port makes another parent", `{"parents":[` + ours + `]}`, []entry{{withPort, accepted}}, `[` + port + `]`, false},
		{"others' alone is no change", `{"parents":[` + theirs + `]}`, nil, `[` + theirs + `]`, true},
		{"what others broke stays", `{"parents":["odd"]}`, nil, `["odd"]`, true},
	} {
		out, same := parents.merge(parse(t, c.stands), us, c.want, noon)
		got, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		want := []any{}
		if err := json.Unmarshal([]byte(c.out), &want); err != nil {
			t.Fatal(err)
		}
		norm, _ := json.Marshal(want)
		var again []any
		_ = json.Unmarshal(got, &again)
		got, _ = json.Marshal(again)
		if string(got) != string(norm) || same != c.same {
			t.Errorf("%s: same %v\n got %s\nwant %s", c.name, same, got, norm)
		}
	}
}

func TestMergeKeepsWithinTheLimit(t *testing.T) {
	l := list{"ancestors", "ancestorRef", 3}
	other := map[string]any{"ancestorRef": service("x"), "controllerName": "example.com/other"}
	stands := map[string]any{"ancestors": []any{other, other}}
	out, same := l.merge(stands, us, []entry{{service("a"), nil}, {service("b"), nil}}, noon)
	if len(out) != 3 || same {
		t.Errorf("%d entries, same %v", len(out), same)
	}
	if out, _ = l.merge(map[string]any{"ancestors": []any{other, other, other, other}}, us, []entry{{service("a"), nil}}, noon); len(out) != 4 {
		t.Errorf("others' entries are gone: %d", len(out))
	}
}

func TestMergeIstio(t *testing.T) {
	other := map[string]any{"type": "ZtunnelAccepted", "status": "True", "reason": "Accepted", "message": "z"}
	stands := map[string]any{"conditions": []any{other}}
	want := []kube.Condition{{Type: istioCondition, Status: true, Reason: "Accepted", Message: "bound", ObservedGeneration: 1}}
	out, same := mergeIstio(stands, want, noon)
	if same || len(out) != 2 {
		t.Fatalf("%v %v", out, same)
	}
	if _, same = mergeIstio(map[string]any{"conditions": out}, want, noon.Add(time.Hour)); !same {
		t.Error("what stands is written again")
	}
}

func TestWorstTargetCounts(t *testing.T) {
	k := kube.Key{Group: groupSecurity, Kind: "AuthorizationPolicy", Namespace: "shop", Name: "p"}
	target := func(name string, ok bool, reason string) kube.TargetStatus {
		return kube.TargetStatus{Ref: kube.TargetRef{Kind: "Service", Name: name}, Ours: true, Condition: kube.Condition{Type: istioCondition, Status: ok, Reason: reason, Message: "m"}}
	}
	p := kube.PolicyStatus{Group: k.Group, Kind: k.Kind, Namespace: k.Namespace, Name: k.Name,
		Targets: []kube.TargetStatus{target("b", true, "Accepted"), target("a", true, "Accepted")}}
	var d desired
	d.policy(&p)
	if c := d.istio[0]; c.Message != "bound to Service a, Service b" || !c.Status {
		t.Errorf("%+v", c)
	}
	p.Targets = append(p.Targets, target("c", false, "TargetNotFound"))
	d.policy(&p)
	if c := d.istio[0]; c.Status || c.Message != "Service c: m" {
		t.Errorf("%+v", c)
	}
}
