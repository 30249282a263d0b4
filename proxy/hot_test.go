package proxy

import (
	"bufio"
	"bytes"
	"io"
	"testing"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// canned answers every request head with the same bytes, without allocating.
func canned(c *memConn, answer []byte) {
	b := make([]byte, 4<<10)
	n := 0
	for {
		m, err := c.Read(b[n:])
		if err != nil {
			return
		}
		n += m
		if n >= 4 && string(b[n-4:n]) == "\r\n\r\n" {
			n = 0
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}

// hot is a model with what an ordinary service has: routes, policies, filters.
func hot(m *config.Model) {
	canary := forward()
	canary.Matches = []routing.Match{{Headers: []routing.ValueMatch{{Name: "x-canary", Value: "true"}}}}
	rest := forward()
	rest.Filters.Response = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-served-by", Value: "cart"}}}
	rules(canary, rest)(m)
	policy(authz.Allow, authz.RuleSpec{From: []authz.Source{{Principals: []string{"cluster.local/ns/clients/sa/curl"}}},
		To: []authz.Operation{{Methods: []string{"GET"}, Paths: []string{"/a/{*}"}}}})(m)
}

const browserGet = "GET /a/b?c=d HTTP/1.1\r\nHost: cart.shop\r\nUser-Agent: test\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\nX-Some: thing\r\n\r\n"

// told is hot with what istiod's Telemetry and VirtualService may ask for beside: a
// header written from a format, and a log that reads the response.
func told(m *config.Model) {
	hot(m)
	last := &m.Destinations[0].Routes[len(m.Destinations[0].Routes)-1]
	last.Filters.Request = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-from", Format: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}}
}

// nowhere is a log that formats its lines and drops them.
type nowhere struct {
	pattern *telemetry.Pattern
	b       []byte
}

func (n *nowhere) Log(r *telemetry.Record) { n.b = n.pattern.Append(n.b[:0], r) }

// hotPath returns a function that makes one request on warm connections.
func hotPath(tb testing.TB, edit func(*config.Model), plan *telemetry.Plan) (once func(), done func()) {
	r := newRig(tb, edit)
	if plan != nil {
		for _, c := range r.snap.Chains() {
			c.Reports = plan
		}
	}
	// The rig's own tracer copies strings; this path is about the proxy.
	r.p.opts.Telemetry = telemetry.New(telemetry.Options{})
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: app\r\nContent-Length: 1024\r\n\r\n" + string(bytes.Repeat([]byte("x"), 1024)))
	r.on(pod1, func(c *memConn) { canned(c, answer) })
	c, _ := r.tunnel()
	req := []byte(browserGet)
	b := make([]byte, 8<<10)
	once = func() {
		if _, err := c.Write(req); err != nil {
			tb.Fatal(err)
		}
		n := 0
		for {
			m, err := c.Read(b[n:])
			if err != nil {
				tb.Fatal(err)
			}
			n += m
			if i := bytes.Index(b[:n], []byte("\r\n\r\n")); i > 0 && n == i+4+1024 {
				break
			}
		}
		if string(b[9:12]) != "200" {
			tb.Fatalf("%s", b[:n])
		}
	}
	return once, func() {
		_ = c.Close()
		r.close()
	}
}

func BenchmarkGet(b *testing.B) {
	buf.SetPoison(false)
	defer buf.SetPoison(true)
	once, done := hotPath(b, hot, nil)
	defer done()
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}

// FuzzTunnel feeds a whole tunnel with arbitrary bytes: whatever they are, the
// tunnel ends, nothing panics and nothing is left behind.
func FuzzTunnel(f *testing.F) {
	f.Add(uint8(0), []byte(get+get))
	f.Add(uint8(0), []byte("POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"+get))
	f.Add(uint8(1), []byte(preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	f.Add(uint8(1), []byte("\x16\x03\x01\x00\x05hello"))
	f.Add(uint8(2), []byte("bytes"))
	f.Add(uint8(1), []byte(upgradeRequest+"frames"))
	f.Fuzz(func(t *testing.T, proto uint8, data []byte) {
		r := newRig(t, protocolIs([]config.Protocol{config.ProtocolHTTP, config.ProtocolAuto, config.ProtocolTCP, config.ProtocolTLS}[proto%4]))
		r.on(pod1, func(c *memConn) {
			br := bufio.NewReader(c)
			b, err := br.Peek(1)
			if err != nil || b[0] > 0x7f {
				return
			}
			// One answer a connection, which then ends: a second request of the same
			// tunnel would wait for ever on a backend that only listens, since this
			// tunnel has no way to tell of its reset.
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		})
		c, ft := r.tunnel()
		go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) }()
		_, _ = c.Write(data)
		_ = c.CloseWrite()
		c.Reset()
		<-ft.done
		if n := r.p.Panics(); n != 0 {
			t.Errorf("%d panics", n)
		}
		r.close()
		if used := r.p.replay.Used(); used != 0 {
			t.Errorf("%d bytes of replay budget are lost", used)
		}
	})
}

// FuzzHello never panics and names only what the hello holds.
func FuzzHello(f *testing.F) {
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name, _ := helloSNI(b); name != "" && len(name) > len(b) {
			t.Errorf("name %q of %d bytes", name, len(b))
		}
		classify(b)
	})
}

// A body read by one attempt after another is the same each time, in whatever
// pieces it comes and is taken.
func TestSourceReplays(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 5000)
	src := &source{}
	r := newRig(t, nil)
	defer r.close()
	src.reset(&bodyServer{r: bytes.NewReader(want)}, r.p.replay)
	for attempt := range 3 {
		if attempt > 0 {
			if gen, ok := src.again(); !ok || gen != attempt {
				t.Fatalf("attempt %d: %d %v", attempt, gen, ok)
			}
		}
		var got []byte
		b := make([]byte, 777*(attempt+1))
		for {
			n, err := src.next(b, int64(len(got)), attempt)
			got = append(got, b[:n]...)
			if err == io.EOF || attempt == 0 && len(got) > 20000 {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(want, got) || attempt > 0 && len(got) != len(want) {
			t.Fatalf("attempt %d: %d bytes differ", attempt, len(got))
		}
	}
	if _, err := src.next(make([]byte, 1), 0, 0); err != errStale {
		t.Errorf("an old attempt reads on: %v", err)
	}
	src.drop()
	if used := r.p.replay.Used(); used != 0 {
		t.Errorf("%d bytes still charged", used)
	}
}

// bodyServer is as much of a codec.Server as a source reads.
type bodyServer struct {
	fakeServer
	r io.Reader
}

func (s *bodyServer) Read(p []byte) (int, error) { return s.r.Read(p) }
