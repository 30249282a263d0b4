package hbone

import (
	"io"
	"testing"
)

func BenchmarkEcho1K(b *testing.B) {
	m := newMesh(b)
	_, addr := m.serve(b, ServerConfig{}, echo)
	tun := mustDial(b, m.pool(b, PoolConfig{}), target(addr))
	defer tun.Close()
	p := make([]byte, 1<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tun.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(tun, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEcho1KParallel16(b *testing.B) {
	m := newMesh(b)
	_, addr := m.serve(b, ServerConfig{}, echo)
	pool := m.pool(b, PoolConfig{})
	b.SetBytes(1 << 10)
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		tun := mustDial(b, pool, target(addr))
		defer tun.Close()
		p := make([]byte, 1<<10)
		for pb.Next() {
			if _, err := tun.Write(p); err != nil {
				b.Error(err)
				return
			}
			if _, err := io.ReadFull(tun, p); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkBulk(b *testing.B) {
	m := newMesh(b)
	_, addr := m.serve(b, ServerConfig{}, handlerFunc(func(tun *Tunnel) {
		if tun.Accept() == nil {
			_, _ = tun.WriteTo(io.Discard)
		}
	}))
	tun := mustDial(b, m.pool(b, PoolConfig{}), target(addr))
	defer tun.Close()
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tun.Write(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDial(b *testing.B) {
	m := newMesh(b)
	_, addr := m.serve(b, ServerConfig{}, echo)
	pool := m.pool(b, PoolConfig{})
	ctx := b.Context()
	mustDial(b, pool, target(addr)).Close()
	b.ReportAllocs()
	for b.Loop() {
		tun, err := pool.Dial(ctx, target(addr), nil)
		if err != nil {
			b.Fatal(err)
		}
		tun.Close()
	}
}
