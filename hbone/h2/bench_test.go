package h2

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
)

// discard answers 200, throws away what comes and then says how much it was.
var discard = handlerFunc(func(s *Stream) {
	s.WriteHead(&Head{Status: 200}, 0)
	s.WriteTo(io.Discard)
	s.CloseWrite()
})

// BenchmarkEcho sends 1 KiB there and back, both ends in this process.
func BenchmarkEcho(b *testing.B) {
	for _, n := range []int{1, 16} {
		for _, tr := range []string{"tls", "memory"} {
			b.Run(fmt.Sprintf("%s/streams=%d", tr, n), func(b *testing.B) {
				var x, y net.Conn
				if tr == "tls" {
					x, y = tlsPair(b)
				} else {
					x, y = memPair(0)
				}
				client, _ := pair(b, x, y, Config{Connect: true}, Config{Connect: true}, echo)
				b.ReportAllocs()
				b.SetBytes(2048)
				var wg sync.WaitGroup
				for i := range n {
					s, err := client.Open(&Head{Method: "CONNECT", Authority: "a:1"}, 0)
					if err != nil {
						b.Fatal(err)
					}
					wg.Go(func() {
						defer s.Close()
						p := make([]byte, 1024)
						for range (b.N + i) / n {
							if _, err := s.Write(p); err != nil {
								b.Error(err)
								return
							}
							if _, err := io.ReadFull(s, p); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// BenchmarkEchoTLS is what BenchmarkEcho costs without HTTP/2.
func BenchmarkEchoTLS(b *testing.B) {
	x, y := tlsPair(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tlsEcho(y)
	}()
	p := make([]byte, 1033)
	b.ReportAllocs()
	b.SetBytes(2048)
	for b.Loop() {
		if _, err := x.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(x, p); err != nil {
			b.Fatal(err)
		}
	}
	x.Close()
	<-done
}

// tlsEcho sends back what it reads.
func tlsEcho(c net.Conn) {
	defer c.Close()
	p := make([]byte, 2048)
	for {
		n, err := c.Read(p)
		if err != nil {
			return
		}
		if _, err := c.Write(p[:n]); err != nil {
			return
		}
	}
}

// BenchmarkBulk sends 16 KiB writes one way.
func BenchmarkBulk(b *testing.B) {
	for _, tr := range []string{"tls", "memory"} {
		b.Run(tr, func(b *testing.B) {
			var x, y net.Conn
			if tr == "tls" {
				x, y = tlsPair(b)
			} else {
				x, y = memPair(1 << 20)
			}
			client, _ := pair(b, x, y, Config{Connect: true}, Config{Connect: true, MaxFrameSize: 1 << 20}, discard)
			s, err := client.Open(&Head{Method: "CONNECT", Authority: "a:1"}, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			p := make([]byte, 32<<10)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			s.CloseWrite()
			io.Copy(io.Discard, s)
		})
	}
}

// BenchmarkOpen opens, answers and closes a stream.
func BenchmarkOpen(b *testing.B) {
	x, y := memPair(0)
	client, _ := pair(b, x, y, Config{}, Config{}, handlerFunc(func(s *Stream) {
		s.WriteHead(&Head{Status: 200}, End)
	}))
	h := request("GET", "/")
	b.ReportAllocs()
	for b.Loop() {
		s, err := client.Open(h, End)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.ReadHead(); err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
