package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"waypoint.dev/waypoint/telemetry"
)

// liveApp answers /ws with a WebSocket handshake and /watch with a response that
// does not end; both echo lines. Port 7070 echoes without HTTP, 9090 speaks gRPC.
func (m *mesh) liveApp() {
	m.t.Helper()
	listen := func(port string) net.Listener {
		ln, err := net.Listen("tcp", podV1+":"+port)
		if err != nil {
			m.t.Fatal(err)
		}
		return ln
	}
	echo := func(c net.Conn) {
		defer c.Close()
		_, _ = io.Copy(c, c)
	}
	raw := listen("7070")
	go func() {
		for {
			c, err := raw.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctl := http.NewResponseController(w)
		switch r.URL.Path {
		case "/ws":
			c, rw, err := ctl.Hijack()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			defer c.Close()
			_, _ = io.Copy(c, rw)
		case "/watch":
			_ = ctl.EnableFullDuplex()
			_ = ctl.Flush()
			b := make([]byte, 64)
			for {
				n, err := r.Body.Read(b)
				if n > 0 {
					_, _ = w.Write(b[:n])
					_ = ctl.Flush()
				}
				if err != nil {
					return
				}
			}
		case "/upload":
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})}
	web := listen("7080")
	go srv.Serve(web)
	g := grpc.NewServer()
	pb.RegisterTestServiceServer(g, rpcServer{})
	go g.Serve(listen("9090"))
	m.root.Cleanup(func() { raw.Close(); srv.Close(); g.Stop() })
}

// open is one long exchange of a client: say sends a line and reads its echo.
type open struct {
	say   func() error
	close func()
}

func (m *mesh) connect(ns, kind string) open {
	m.t.Helper()
	vip := map[string]int{"tcp": 4, "grpc": 6}[kind]
	if vip == 0 {
		vip = 5
	}
	if kind == "grpc" {
		cc, err := grpc.NewClient("passthrough:///"+m.front(ns, vip), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			m.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(m.root.Context(), 30*time.Second)
		s, err := pb.NewTestServiceClient(cc).FullDuplexCall(ctx)
		if err != nil {
			m.t.Fatal(err)
		}
		return open{func() error {
			if err := s.Send(&pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 1}}}); err != nil && err != io.EOF {
				return err
			}
			_, err := s.Recv()
			return err
		}, func() { cancel(); cc.Close() }}
	}
	c, err := net.Dial("tcp", m.front(ns, vip))
	if err != nil {
		m.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	br := bufio.NewReader(c)
	switch kind {
	case "websocket":
		_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: live\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	case "watch":
		_, _ = io.WriteString(c, "POST /watch HTTP/1.1\r\nHost: live\r\nTransfer-Encoding: chunked\r\n\r\n")
	case "upload":
		_, _ = io.WriteString(c, "POST /upload HTTP/1.1\r\nHost: live\r\nTransfer-Encoding: chunked\r\n\r\n")
		return open{func() error {
			_, err := io.WriteString(c, "1\r\nx\r\n")
			return err
		}, func() { c.Close() }}
	}
	if kind != "tcp" {
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 101 && resp.StatusCode != 200 {
			m.t.Fatalf("%s: %+v %v", kind, resp, err)
		}
		if resp.StatusCode == 200 {
			br = bufio.NewReader(resp.Body)
		}
	}
	return open{func() error {
		line := "hello\n"
		if kind == "watch" {
			line = fmt.Sprintf("%x\r\nhello\n\r\n", len(line))
		}
		if _, err := io.WriteString(c, line); err != nil {
			return err
		}
		got, err := br.ReadString('\n')
		if err == nil && got != "hello\n" {
			err = fmt.Errorf("echoed %q", got)
		}
		return err
	}, func() { c.Close() }}
}

// A changed policy ends what is open and now denied: connections, upgrades and
// streams, in both directions. What others have open goes on.
func TestPolicyChangeEndsWhatIsOpen(t *testing.T) {
	m := newMesh(t)
	m.liveApp()
	deny := policy("shop", "p", "{"+onGate+", action: DENY, "+fromOthers+"}")
	for _, kind := range []string{"tcp", "websocket", "watch", "upload", "grpc"} {
		t.Run(kind, func(t *testing.T) {
			m.t = t
			m.guard()
			stays, goes := m.connect("clients", kind), m.connect("others", kind)
			defer stays.close()
			defer goes.close()
			both := func() {
				t.Helper()
				for _, o := range []open{stays, goes} {
					if err := o.say(); err != nil {
						t.Fatalf("cut too early: %v", err)
					}
				}
			}
			both()
			// A policy about somebody else changes nothing.
			m.guard(policy("shop", "p", "{"+onGate+`, action: DENY, rules: [{from: [{source: {namespaces: [strangers]}}]}]}`))
			both()
			m.guard(deny)
			var err error
			for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); {
				err = goes.say()
			}
			if err == nil {
				t.Fatal("still open")
			}
			if kind == "grpc" && status.Code(err) != codes.PermissionDenied && status.Code(err) != codes.Canceled && status.Code(err) != codes.Internal && status.Code(err) != codes.Unavailable {
				t.Errorf("ended with %v", err)
			}
			if err := stays.say(); err != nil {
				t.Errorf("what is allowed ended too: %v", err)
			}
			r := m.logged(kind == "tcp")
			if r.Policy != "shop/p" || r.Rule != "ns[shop]-policy[p]-rule[0]" || r.Reason != "deny_matched" {
				t.Errorf("logged %q %q %q", r.Policy, r.Rule, r.Reason)
			}
			// It does not open again.
			if kind == "tcp" {
				if c, err := net.Dial("tcp", m.front("others", 4)); err == nil { // else it was reset at once
					_ = c.SetDeadline(time.Now().Add(10 * time.Second))
					_, _ = io.WriteString(c, "hello\n")
					if b, _ := io.ReadAll(c); len(b) > 0 {
						t.Errorf("opened again: %q", b)
					}
					c.Close()
				}
			} else if a := m.ask("others", 5, "GET", "/watch"); a.StatusCode != 403 {
				t.Errorf("opened again: %d", a.StatusCode)
			}
			m.logged(kind == "tcp")
		})
	}
}

// logged waits for the record of what a policy ended, and forgets it.
func (m *mesh) logged(tcp bool) telemetry.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		for i, r := range m.conns {
			if tcp && r.Denied {
				m.conns = append(m.conns[:i], m.conns[i+1:]...)
				return r
			}
		}
		for id, r := range m.records {
			if !tcp && r.Denied {
				delete(m.records, id)
				return r
			}
		}
		m.arrived.Wait()
	}
}
