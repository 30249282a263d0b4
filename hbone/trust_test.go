package hbone

import (
	"sync/atomic"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
)

// swapped is a source whose values a test sets.
type swapped struct{ identity.Store }

func (*swapped) Close() error { return nil }

// fickle trusts the roots of one source for some questions, and another's then. It
// tells nobody.
type fickle struct {
	identity.Source
	then  identity.Source
	first atomic.Int64
}

func (f *fickle) Bundle() *identity.Bundle {
	if f.first.Add(-1) >= 0 {
		return f.Source.Bundle()
	}
	return f.then.Bundle()
}

// A server whose roots change drains the connections of peers that they do not cover:
// their tunnels run on, and new ones are refused.
func TestDistrustDrains(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	src := &swapped{}
	src.Set(m.server.SVID(), m.server.Bundle())
	s, addr := m.serve(t, ServerConfig{TLS: src}, echo)
	p := m.pool(t, PoolConfig{})
	tun := mustDial(t, p, target(addr))
	defer tun.Close()
	roundTrip(t, tun, "before")
	src.Set(nil, m.server.Bundle()) // news that change nothing
	again := mustDial(t, p, target(addr))
	defer again.Close()
	select {
	case <-tun.Draining():
		t.Error("drained under the same roots")
	default:
	}
	src.Set(nil, other.server.Bundle())
	select {
	case <-tun.Draining():
	case <-time.After(10 * time.Second):
		t.Fatal("a peer that is trusted no longer keeps its connection")
	}
	roundTrip(t, tun, "to the end")
	if d := s.Stats().Drained; d != 1 {
		t.Errorf("%d connections drained", d)
	}
	if _, err := p.Dial(ctxT(t), target(addr), nil); err == nil {
		t.Error("a peer that is trusted no longer has a new tunnel")
	}
}

// Roots that change while a handshake runs are asked once more behind it.
func TestDistrustDuringTheHandshake(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	src := &fickle{Source: m.server, then: other.server}
	src.first.Store(1)
	_, addr := m.serve(t, ServerConfig{TLS: src}, echo)
	p := m.pool(t, PoolConfig{})
	tun, err := p.Dial(ctxT(t), target(addr), nil)
	if err != nil {
		return // it drained before the tunnel was there
	}
	defer tun.Close()
	select {
	case <-tun.Draining():
	case <-time.After(10 * time.Second):
		t.Error("the connection stays, though its roots went while it was made")
	}
}
