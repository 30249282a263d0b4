package h2spec

import (
	"io"
	"net"
	"sync"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/internal/attrs"
)

// A Server runs the engine on a loopback listener, in the clear and with prior
// knowledge.
type Server struct {
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	conns []*h2.Conn
}

// Start serves h on a free port of the loopback.
func Start(cfg h2.Config, h h2.Handler) (*Server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{ln: ln}
	s.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c := h2.NewServer(nc, cfg, h)
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wg.Go(func() { c.Serve() })
		}
	})
	return s, nil
}

// Port it listens on.
func (s *Server) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Close ends the listener and every connection; the suite leaves some open.
func (s *Server) Close() {
	s.ln.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		c.Close(nil)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Web answers every request with 200 and a short body, as the inner HTTP/2
// server would.
type Web struct{}

// ServeStream implements h2.Handler.
func (Web) ServeStream(s *h2.Stream) {
	if _, err := s.WriteTo(io.Discard); err != nil {
		return
	}
	head := h2.Head{Status: 200, Fields: []attrs.Field{{Name: "content-type", Value: "text/plain"}}}
	if s.WriteHead(&head, h2.More) == nil {
		s.WriteData([]byte("hello, h2spec\n"), h2.End)
	}
}

// Tunnels accepts every CONNECT and echoes what comes.
type Tunnels struct{}

// ServeStream implements h2.Handler.
func (Tunnels) ServeStream(s *h2.Stream) {
	if s.WriteHead(&h2.Head{Status: 200}, 0) != nil {
		return
	}
	if _, err := s.WriteTo(s); err == nil {
		s.CloseWrite()
	}
}
