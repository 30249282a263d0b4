package provision

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// outcome is what became of a Gateway's objects.
type outcome struct {
	made       bool   // waypoints are made here, not by others
	parameters error  // why they cannot be used
	taken      string // an object of the same name that is not ours
	apply      error  // why something could not be applied
	available  int32  // replicas of the Deployment that serve
	addresses  []address
	attached   int32 // routes of services that the waypoint serves
}

// describe makes the status of a Gateway. stands is the present one: addresses that
// were told once stay, so that a waypoint that has failed is not gone around.
func describe(gw *Gateway, o outcome, stands json.RawMessage) *gatewayStatus {
	gen := gw.Metadata.Generation
	st := &gatewayStatus{Conditions: []condition{}, Listeners: []listenerStatus{}}
	listeners := checkListeners(gw)
	var broken []string
	for _, l := range listeners {
		if l.err != "" {
			broken = append(broken, l.name)
		}
	}
	wrong := refused(gw)

	var accepted condition
	switch {
	case o.parameters != nil:
		accepted = is("Accepted", false, "InvalidParameters", o.parameters.Error(), gen)
	case wrong != nil:
		accepted = is("Accepted", false, wrong.reason, wrong.message, gen)
	case len(broken) > 0:
		accepted = is("Accepted", true, "ListenersNotValid", "listeners that a waypoint does not have: "+strings.Join(broken, ", "), gen)
	default:
		accepted = is("Accepted", true, "Accepted", "the Gateway is a waypoint of this controller", gen)
	}
	st.Conditions = append(st.Conditions, accepted)

	var have gatewayStatus
	if len(stands) > 0 && json.Unmarshal(stands, &have) != nil {
		have = gatewayStatus{}
	}
	if len(o.addresses) > 0 && (o.available > 0 || len(have.Addresses) > 0) {
		st.Addresses = o.addresses
	} else {
		st.Addresses = have.Addresses
	}
	programmed := false
	switch {
	case accepted.Status == "False":
		st.Conditions = append(st.Conditions, is("Programmed", false, "Invalid", "the Gateway is not accepted", gen))
	case o.taken != "":
		st.Conditions = append(st.Conditions, is("Programmed", false, "NoResources", o.taken+" exists and belongs to someone else; rename the Gateway or remove it", gen))
	case o.apply != nil:
		st.Conditions = append(st.Conditions, is("Programmed", false, "NoResources", o.apply.Error(), gen))
	case len(o.addresses) == 0 && !o.made:
		st.Conditions = append(st.Conditions, is("Programmed", false, "AddressNotAssigned", "there is no Service "+gw.Metadata.Name+" with an address and port 15008, which whoever runs the waypoint makes", gen))
	case len(o.addresses) == 0:
		st.Conditions = append(st.Conditions, is("Programmed", false, "AddressNotAssigned", "the Service has no address yet", gen))
	case o.available == 0:
		st.Conditions = append(st.Conditions, is("Programmed", false, "Pending", "no replica of the waypoint is ready", gen))
	default:
		programmed = true
		st.Conditions = append(st.Conditions, is("Programmed", true, "Programmed", fmt.Sprintf("the waypoint serves at %s", o.addresses[0].Value), gen))
	}

	for _, l := range listeners {
		ls := listenerStatus{Name: l.name, SupportedKinds: []RouteKind{}}
		for _, k := range l.kinds {
			group := gatewayGroup
			ls.SupportedKinds = append(ls.SupportedKinds, RouteKind{&group, k})
		}
		if l.err != "" {
			ls.Conditions = []condition{
				is("Accepted", false, l.err, l.message, gen),
				is("Conflicted", false, "NoConflicts", "no other listener is in the way", gen),
				is("Programmed", false, "Invalid", l.message, gen),
				is("ResolvedRefs", true, "ResolvedRefs", "all references are resolved", gen),
			}
			st.Listeners = append(st.Listeners, ls)
			continue
		}
		ls.AttachedRoutes = o.attached
		refs := is("ResolvedRefs", true, "ResolvedRefs", "all references are resolved", gen)
		if len(l.unknown) > 0 {
			refs = is("ResolvedRefs", false, "InvalidRouteKinds", "a waypoint has no routes of kind "+strings.Join(l.unknown, ", "), gen)
		}
		ready := is("Programmed", true, "Programmed", "the waypoint serves", gen)
		if !programmed {
			ready = is("Programmed", false, "Pending", "the waypoint does not serve yet", gen)
		}
		ls.Conditions = []condition{
			is("Accepted", true, "Accepted", "the listener takes tunnels of the mesh", gen),
			is("Conflicted", false, "NoConflicts", "no other listener is in the way", gen),
			ready, refs,
		}
		st.Listeners = append(st.Listeners, ls)
	}
	return st
}

// refusal is why a Gateway is no waypoint.
type refusal struct{ reason, message string }

// refused tells why a Gateway is no waypoint; nil: it is one.
func refused(gw *Gateway) *refusal {
	switch {
	case len(validation.IsDNS1123Label(gw.Metadata.Name)) > 0:
		return &refusal{"Invalid", "a waypoint's Service, and a label of its pods, have the Gateway's name: at most 63 letters, digits and hyphens, without a dot"}
	case len(gw.Spec.Addresses) > 0:
		return &refusal{"UnsupportedAddress", "a waypoint has the address of its Service: remove spec.addresses"}
	case !slices.ContainsFunc(checkListeners(gw), func(l listener) bool { return l.err == "" }):
		return &refusal{"ListenersNotValid", "no listener has protocol HBONE and port 15008"}
	}
	return nil
}

// listener is a listener as it was judged.
type listener struct {
	name         string
	err, message string   // reason of Accepted=False; empty: it is sound
	kinds        []string // route kinds that it admits
	unknown      []string // of allowedRoutes.kinds
}

func checkListeners(gw *Gateway) []listener {
	var out []listener
	for _, l := range gw.Spec.Listeners {
		x := listener{name: l.Name, kinds: routeKinds}
		switch {
		case l.Protocol != hbone:
			x.err, x.message, x.kinds = "UnsupportedProtocol", "a waypoint's listener has protocol HBONE, not "+l.Protocol, nil
		case l.Port != hbonePort:
			x.err, x.message, x.kinds = "PortUnavailable", fmt.Sprintf("the port of HBONE is %d, not %d", hbonePort, l.Port), nil
		}
		if l.AllowedRoutes != nil && len(l.AllowedRoutes.Kinds) > 0 && x.err == "" {
			x.kinds = nil
			for _, k := range l.AllowedRoutes.Kinds {
				if (k.Group == nil || *k.Group == gatewayGroup) && slices.Contains(routeKinds, k.Kind) {
					x.kinds = append(x.kinds, k.Kind)
				} else {
					x.unknown = append(x.unknown, k.Kind)
				}
			}
		}
		out = append(out, x)
	}
	return out
}
