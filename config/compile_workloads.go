package config

import (
	"maps"
	"net/netip"
	"strings"
)

// same reports whether two lists are one list.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// workloads indexes the workloads. It takes over the index of the very same list,
// and copies and changes that of a list that differs in one place.
func (c *compiler) workloads(list []*Workload) {
	s, p := c.next, c.prev
	s.source = list
	if p.byUID != nil && same(list, p.source) {
		s.byUID, s.workloads, s.addresses = p.byUID, p.workloads, p.addresses
		return
	}
	if c.workloadsFrom(p) {
		return
	}
	s.byUID = make(map[string]*Workload, len(list))
	s.workloads = make(map[netip.Addr]*Workload, len(list))
	s.addresses = 0
	for _, w := range list {
		s.byUID[w.UID] = w
		s.addresses += len(w.Addrs)
		for _, a := range w.Addrs {
			s.workloads[a.Unmap().WithZone("")] = w
		}
	}
}

// workloadsFrom changes a copy of the former index. It returns false when that is
// not less work, or when names or addresses occur twice: then the order counts.
func (c *compiler) workloadsFrom(p *Snapshot) bool {
	s := c.next
	gone, come := p.source, s.source
	for len(gone) > 0 && len(come) > 0 && gone[0] == come[0] {
		gone, come = gone[1:], come[1:]
	}
	for len(gone) > 0 && len(come) > 0 && gone[len(gone)-1] == come[len(come)-1] {
		gone, come = gone[:len(gone)-1], come[:len(come)-1]
	}
	if len(gone)+len(come) > len(s.source)/4 || p.addresses != len(p.workloads) || len(p.source) != len(p.byUID) {
		return false
	}
	s.byUID, s.workloads, s.addresses = maps.Clone(p.byUID), maps.Clone(p.workloads), p.addresses
	for _, w := range gone {
		delete(s.byUID, w.UID)
		s.addresses -= len(w.Addrs)
		for _, a := range w.Addrs {
			delete(s.workloads, a.Unmap().WithZone(""))
		}
	}
	for _, w := range come {
		s.byUID[w.UID] = w
		s.addresses += len(w.Addrs)
		for _, a := range w.Addrs {
			s.workloads[a.Unmap().WithZone("")] = w
		}
	}
	return s.addresses == len(s.workloads) && len(s.source) == len(s.byUID)
}

// workload returns the workload of a workload destination.
func (c *compiler) workload(d *Destination) *Workload {
	if !d.Workload {
		return nil
	}
	if w := c.next.byUID[strings.TrimPrefix(d.Key, "workload/")]; w != nil {
		return w
	}
	for _, p := range d.Addrs {
		if p.IsSingleIP() {
			if w := c.next.workloads[p.Addr()]; w != nil {
				return w
			}
		}
	}
	return nil
}

// sameWorkload reports whether connections to a may serve b.
func sameWorkload(a, b *Workload) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UID == b.UID && a.Tunnel == b.Tunnel && a.TrustDomain == b.TrustDomain &&
		a.Namespace == b.Namespace && a.ServiceAccount == b.ServiceAccount
}
