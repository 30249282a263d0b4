package istiod

import (
	"errors"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// Field numbers of istio.workload.Workload, Locality and Address (istio 1.31,
// pkg/workloadapi/workload.proto).
const (
	wlName              = 1
	wlNamespace         = 2
	wlAddresses         = 3
	wlNetwork           = 4
	wlTunnelProtocol    = 5
	wlTrustDomain       = 6
	wlServiceAccount    = 7
	wlNode              = 9
	wlCanonicalName     = 10
	wlCanonicalRevision = 11
	wlType              = 12
	wlWorkloadName      = 13
	wlStatus            = 17
	wlClusterID         = 18
	wlUID               = 20
	wlLocality          = 24
	wlNetworkMode       = 25

	localityRegion, localityZone, localitySubzone = 1, 2, 3
	addressWorkload                               = 1

	tunnelHBONE     = 1
	statusUnhealthy = 1
	modeHostNetwork = 1
)

// workloadTypes are the words that telemetry uses for WorkloadType.
var workloadTypes = [...]string{"deployment", "cronjob", "pod", "job"}

// workload is a decoded istio.workload.Workload.
type workload struct {
	config.Workload
	host   bool         // shares the address of its node
	all    []netip.Addr // of any network
	digest digest
}

// decodeWorkload reads a Workload. The message has no generated code here: few of
// its fields matter, and one pass without reflection keeps 100,000 of them cheap.
func decodeWorkload(b []byte) (*workload, error) {
	w := &workload{}
	w.Healthy = true
	w.WorkloadType = workloadTypes[0]
	bad := false
	ok := fields(b, func(num protowire.Number, v []byte, n uint64) {
		switch num {
		case wlName:
			w.Name = string(v)
		case wlNamespace:
			w.Namespace = string(v)
		case wlAddresses:
			a, ok := netip.AddrFromSlice(v)
			bad = bad || !ok
			w.all = append(w.all, a.Unmap())
		case wlNetwork:
			w.Network = string(v)
		case wlTunnelProtocol:
			w.Tunnel = n == tunnelHBONE
		case wlTrustDomain:
			w.TrustDomain = string(v)
		case wlServiceAccount:
			w.ServiceAccount = string(v)
		case wlNode:
			w.Node = string(v)
		case wlCanonicalName:
			w.CanonicalName = string(v)
		case wlCanonicalRevision:
			w.CanonicalRevision = string(v)
		case wlType:
			w.WorkloadType = "unknown"
			if n < uint64(len(workloadTypes)) {
				w.WorkloadType = workloadTypes[n]
			}
		case wlWorkloadName:
			w.WorkloadName = string(v)
		case wlStatus:
			w.Healthy = n != statusUnhealthy
		case wlClusterID:
			w.ClusterID = string(v)
		case wlUID:
			w.UID = string(v)
		case wlNetworkMode:
			w.host = n == modeHostNetwork
		case wlLocality:
			l, ok := decodeLocality(v)
			w.Locality, bad = l, bad || !ok
		}
	})
	switch {
	case !ok || bad:
		return nil, errors.New("is no istio.workload.Workload")
	case w.UID == "":
		return nil, errors.New("has no uid")
	}
	// What an empty field means (workload.proto).
	if w.TrustDomain == "" {
		w.TrustDomain = "cluster.local"
	}
	if w.Namespace == "" {
		w.Namespace = "default"
	}
	if w.ServiceAccount == "" {
		w.ServiceAccount = "default"
	}
	return w, nil
}

func decodeLocality(b []byte) (l balance.Locality, ok bool) {
	ok = fields(b, func(num protowire.Number, v []byte, _ uint64) {
		switch num {
		case localityRegion:
			l.Region = string(v)
		case localityZone:
			l.Zone = string(v)
		case localitySubzone:
			l.Subzone = string(v)
		}
	})
	return l, ok
}

// decodeAddress reads an istio.workload.Address; nil for a service in one.
func decodeAddress(b []byte) (w *workload, err error) {
	ok := fields(b, func(num protowire.Number, v []byte, _ uint64) {
		if num == addressWorkload {
			w, err = decodeWorkload(v)
		}
	})
	if !ok {
		return nil, errors.New("is no istio.workload.Address")
	}
	return w, err
}

// WorkloadIn returns the serialized Workload in an istio.workload.Address, borrowed
// from it; false: it holds a Service. What is no Address is returned whole, for Apply
// to refuse.
func WorkloadIn(address []byte) (body []byte, ok bool) {
	service := false
	if !fields(address, func(num protowire.Number, v []byte, _ uint64) {
		if num == addressWorkload {
			body, ok = v, true
		} else {
			service = true
		}
	}) {
		return address, true
	}
	return body, ok || !service
}

// identity is the SPIFFE URI of the workload.
func (w *workload) identity() string {
	return "spiffe://" + w.TrustDomain + "/ns/" + w.Namespace + "/sa/" + w.ServiceAccount
}
