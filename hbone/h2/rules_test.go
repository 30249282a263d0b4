package h2

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// TestServerRules sends a client's mistakes, each of which has its error.
func TestServerRules(t *testing.T) {
	raw := func(typ http2.FrameType, f http2.Flags, id uint32, b ...byte) func(*peer) {
		return func(p *peer) { p.fr.WriteRawFrame(typ, f, id, b) }
	}
	head := func(end bool, kv ...string) func(*peer) { return func(p *peer) { p.headers(1, end, kv...) } }
	with := func(kv ...string) func(*peer) {
		return head(true, append(append([]string{}, getHead...), kv...)...)
	}
	open := func(end bool, then func(*peer)) func(*peer) {
		return func(p *peer) {
			p.accept(1, end, postHead...)
			then(p)
		}
	}
	closed := func(then func(*peer)) func(*peer) {
		return func(p *peer) {
			s := p.accept(1, true, getHead...)
			if err := s.WriteHead(&Head{Status: 200}, End); err != nil {
				p.Fatal(err)
			}
			p.wantHead(1)
			then(p)
		}
	}
	const (
		protocol = http2.ErrCodeProtocol
		size     = http2.ErrCodeFrameSize
		flow     = http2.ErrCodeFlowControl
		gone     = http2.ErrCodeStreamClosed
	)
	tests := []struct {
		name  string
		do    func(p *peer)
		conn  http2.ErrCode // of GOAWAY
		reset http2.ErrCode // of RST_STREAM on stream 1
	}{
		// RFC 9113 section 4.2, 6.x: sizes.
		{"data too large", raw(http2.FrameData, 0, 1, make([]byte, 16385)...), size, 0},
		{"headers too large", raw(http2.FrameHeaders, 4, 1, make([]byte, 16385)...), size, 0},
		{"padded headers empty", raw(http2.FrameHeaders, 4|8, 1), size, 0},
		{"headers padding too long", raw(http2.FrameHeaders, 4|8, 1, 9, 0x82), protocol, 0},
		{"priority headers short", raw(http2.FrameHeaders, 4|32, 1, 0, 0, 0, 0), size, 0},
		{"priority size", raw(http2.FramePriority, 0, 1, 0, 0, 0, 0), size, 0},
		{"rst size", open(false, raw(http2.FrameRSTStream, 0, 1, 0, 0, 0)), size, 0},
		{"settings size", raw(http2.FrameSettings, 0, 0, 0, 0, 0), size, 0},
		{"settings ack with payload", raw(http2.FrameSettings, 1, 0, 0, 1, 0, 0, 0, 0), size, 0},
		{"ping size", raw(http2.FramePing, 0, 0, 1, 2, 3), size, 0},
		{"goaway size", raw(http2.FrameGoAway, 0, 0, 0, 0, 0, 0), size, 0},
		{"window update size", raw(http2.FrameWindowUpdate, 0, 0, 0, 0, 1), size, 0},
		{"data padding too long", open(false, raw(http2.FrameData, 8, 1, 9, 0)), protocol, 0},
		{"padded data empty", open(false, raw(http2.FrameData, 8, 1)), size, 0},
		// Stream 0, and streams where none belongs.
		{"data on 0", raw(http2.FrameData, 0, 0, 1), protocol, 0},
		{"headers on 0", raw(http2.FrameHeaders, 5, 0, 0x82), protocol, 0},
		{"priority on 0", raw(http2.FramePriority, 0, 0, 0, 0, 0, 0, 0), protocol, 0},
		{"rst on 0", raw(http2.FrameRSTStream, 0, 0, 0, 0, 0, 0), protocol, 0},
		{"settings on 1", raw(http2.FrameSettings, 0, 1), protocol, 0},
		{"ping on 1", raw(http2.FramePing, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), protocol, 0},
		{"goaway on 1", raw(http2.FrameGoAway, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), protocol, 0},
		{"push promise", raw(http2.FramePushPromise, 4, 1, 0, 0, 0, 2, 0x82), protocol, 0},
		// Section 5.1: states.
		{"data on idle", raw(http2.FrameData, 0, 1, 1), protocol, 0},
		{"rst on idle", raw(http2.FrameRSTStream, 0, 1, 0, 0, 0, 0), protocol, 0},
		{"window update on idle", raw(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 1), protocol, 0},
		{"even stream", func(p *peer) { p.headers(2, true, getHead...) }, protocol, 0},
		{"smaller stream", func(p *peer) { p.accept(5, false, postHead...); p.headers(3, true, getHead...) }, protocol, 0},
		{"data on half closed", open(true, raw(http2.FrameData, 0, 1, 1)), 0, gone},
		{"headers on half closed", open(true, func(p *peer) { p.headers(1, true, "a", "b") }), 0, gone},
		{"data on closed", closed(raw(http2.FrameData, 0, 1, 1)), gone, 0},
		{"headers on closed", closed(func(p *peer) { p.headers(1, true, getHead...) }), gone, 0},
		// Section 6.10: CONTINUATION.
		{"continuation alone", raw(http2.FrameContinuation, 4, 1, 0x82), protocol, 0},
		{"headers interrupted", func(p *peer) {
			raw(http2.FrameHeaders, 0, 1, 0x82)(p)
			raw(http2.FramePing, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)(p)
		}, protocol, 0},
		{"continuation of another", func(p *peer) {
			raw(http2.FrameHeaders, 0, 1, 0x82)(p)
			raw(http2.FrameContinuation, 4, 3, 0x82)(p)
		}, protocol, 0},
		{"unknown frame in headers", func(p *peer) {
			raw(http2.FrameHeaders, 0, 1, 0x82)(p)
			raw(0xfe, 0, 0)(p)
		}, protocol, 0},
		// Section 6.5.2: settings.
		{"enable push 2", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2}) }, protocol, 0},
		{"initial window too large", func(p *peer) {
			p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}, flow, 0},
		{"frame size too small", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16383}) }, protocol, 0},
		{"frame size too large", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 24}) }, protocol, 0},
		// Section 6.9: windows.
		{"connection update 0", raw(http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0), protocol, 0},
		{"stream update 0", open(false, raw(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 0)), 0, protocol},
		{"connection window overflows", raw(http2.FrameWindowUpdate, 0, 0, 0x7f, 0xff, 0xff, 0xff), flow, 0},
		{"stream window overflows", open(false, raw(http2.FrameWindowUpdate, 0, 1, 0x7f, 0xff, 0xff, 0xff)), 0, flow},
		{"settings overflow a window", open(false, func(p *peer) {
			p.fr.WriteWindowUpdate(1, 1<<30)
			p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		}), flow, 0},
		{"stream window exceeded", open(false, func(p *peer) {
			for range 5 {
				p.fr.WriteData(1, false, make([]byte, 16384))
			}
		}), 0, flow},
		// HPACK.
		{"bad index", raw(http2.FrameHeaders, 5, 1, 0xff, 0xff, 0x01), http2.ErrCodeCompression, 0},
		{"truncated block", raw(http2.FrameHeaders, 5, 1, 0x00, 0x0a, 'a'), http2.ErrCodeCompression, 0},
		// Section 8: heads.
		{"upper case", with("X-Up", "1"), 0, protocol},
		{"bad name", with("a b", "1"), 0, protocol},
		{"empty name", with("", "1"), 0, protocol},
		{"newline in value", with("a", "1\n2"), 0, protocol},
		{"nul in value", with("a", "1\x002"), 0, protocol},
		{"space around value", with("a", " 1"), 0, protocol},
		{"connection", with("connection", "close"), 0, protocol},
		{"keep-alive", with("keep-alive", "1"), 0, protocol},
		{"proxy-connection", with("proxy-connection", "1"), 0, protocol},
		{"transfer-encoding", with("transfer-encoding", "chunked"), 0, protocol},
		{"upgrade", with("upgrade", "h2c"), 0, protocol},
		{"te", with("te", "gzip"), 0, protocol},
		{"pseudo after field", head(true, ":method", "GET", "a", "b", ":scheme", "http", ":path", "/"), 0, protocol},
		{"unknown pseudo", with(":x", "1"), 0, protocol},
		{"status in request", with(":status", "200"), 0, protocol},
		{"protocol in request", head(false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "a"), 0, protocol},
		{"two methods", with(":method", "GET"), 0, protocol},
		{"no method", head(true, ":scheme", "http", ":path", "/"), 0, protocol},
		{"bad method", head(true, ":method", "G T", ":scheme", "http", ":path", "/"), 0, protocol},
		{"no scheme", head(true, ":method", "GET", ":path", "/"), 0, protocol},
		{"no path", head(true, ":method", "GET", ":scheme", "http"), 0, protocol},
		{"empty path", head(true, ":method", "GET", ":scheme", "http", ":path", ""), 0, protocol},
		{"relative path", head(true, ":method", "GET", ":scheme", "http", ":path", "x"), 0, protocol},
		{"star for GET", head(true, ":method", "GET", ":scheme", "http", ":path", "*"), 0, protocol},
		{"space in path", head(true, ":method", "GET", ":scheme", "http", ":path", "/a b"), 0, protocol},
		{"userinfo", head(true, ":method", "GET", ":scheme", "http", ":authority", "u@a", ":path", "/"), 0, protocol},
		{"host differs", with("host", "b"), 0, protocol},
		{"connect with path", head(false, ":method", "CONNECT", ":authority", "a:1", ":path", "/"), 0, protocol},
		{"connect with scheme", head(false, ":method", "CONNECT", ":authority", "a:1", ":scheme", "http"), 0, protocol},
		{"connect without authority", head(false, ":method", "CONNECT"), 0, protocol},
		{"two lengths", with("content-length", "0", "content-length", "1"), 0, protocol},
		{"bad length", with("content-length", "-1"), 0, protocol},
		{"length without body", with("content-length", "1"), 0, protocol},
		{"body too long", func(p *peer) {
			p.accept(1, false, append(append([]string{}, postHead...), "content-length", "1")...)
			p.fr.WriteData(1, false, []byte("ab"))
		}, 0, protocol},
		{"body too short", func(p *peer) {
			p.accept(1, false, append(append([]string{}, postHead...), "content-length", "3")...)
			p.fr.WriteData(1, true, []byte("ab"))
		}, 0, protocol},
		{"body too short before trailers", func(p *peer) {
			p.accept(1, false, append(append([]string{}, postHead...), "content-length", "3")...)
			p.headers(1, true, "a", "b")
		}, 0, protocol},
		{"trailers without end", open(false, head(false, "a", "b")), 0, protocol},
		{"pseudo in trailers", open(false, head(true, ":path", "/")), 0, protocol},
		{"bad trailers", open(false, head(true, "A", "b")), 0, protocol},
		// RFC 7540 section 5.3.1.
		{"depends on itself", func(p *peer) {
			p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(getHead...), EndHeaders: true,
				Priority: http2.PriorityParam{StreamDep: 1}})
		}, 0, protocol},
		{"priority on itself", func(p *peer) { p.fr.WritePriority(1, http2.PriorityParam{StreamDep: 1}) }, 0, protocol},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			script(t, true, quiet(), func(p *peer) {
				p.greet()
				tt.do(p)
				if tt.conn != 0 {
					p.wantGoAway(tt.conn)
					p.wantClosed()
					return
				}
				p.wantReset(1, tt.reset)
				p.accept(7, true, getHead...) // the connection lives on
			})
		})
	}
}

// TestServerTolerates sends what must not be an error.
func TestServerTolerates(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		p.fr.WriteRawFrame(0xfe, 0xff, 0, []byte("unknown"))
		p.fr.WriteSettings(http2.Setting{ID: 0xfff0, Val: 1})
		skipTo[*http2.SettingsFrame](p)
		p.fr.WritePriority(9, http2.PriorityParam{StreamDep: 3, Weight: 1})
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(append(postHead, "te", "trailers")...),
			EndHeaders: true, PadLength: 20, Priority: http2.PriorityParam{StreamDep: 7, Exclusive: true}})
		s := <-p.got
		p.fr.WriteDataPadded(1, false, []byte("body"), make([]byte, 100))
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: nil, EndStream: true})
		p.fr.WriteContinuation(1, false, nil)
		p.fr.WriteContinuation(1, true, p.block("x-t", "1"))
		b := make([]byte, 10)
		if n, err := s.Read(b); string(b[:n]) != "body" || err != nil {
			p.Errorf("read %q, %v", b[:n], err)
		}
		if n, err := s.Read(b); n != 0 || err.Error() != "EOF" {
			p.Errorf("at the end: %d, %v", n, err)
		}
		if tr := s.Trailers(); tr == nil || len(tr.Fields) != 1 || tr.Fields[0].Value != "1" {
			p.Errorf("trailers %v", tr)
		}
		// A stream that we reset: late frames are ignored.
		s = p.accept(3, false, postHead...)
		s.Reset(http2.ErrCodeCancel)
		p.wantReset(3, http2.ErrCodeCancel)
		p.fr.WriteData(3, false, []byte("late"))
		p.headers(3, true, "late", "trailer")
		p.fr.WriteWindowUpdate(3, 1)
		p.fr.WriteRSTStream(3, http2.ErrCodeCancel)
		p.accept(5, true, getHead...)
		p.accept(7, true, ":method", "OPTIONS", ":scheme", "http", ":path", "*")
		p.fr.WritePing(false, [8]byte{1})
		if f := skipTo[*http2.PingFrame](p); !f.IsAck() || f.Data[0] != 1 {
			p.Errorf("pong %v", f)
		}
	})
}

// TestPreface closes on anything but the preface and SETTINGS.
func TestPreface(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.fr.WritePing(false, [8]byte{})
		p.wantGoAway(http2.ErrCodeProtocol)
		p.wantClosed()
	})
	script(t, true, quiet(), func(p *peer) { // nothing after the preface
		p.wantClosed()
		if err := <-p.ret; !strings.Contains(err.Error(), "no preface in time") {
			p.Errorf("Serve: %v", err)
		}
	})
	script(t, false, quiet(), func(p *peer) {
		p.fr.WriteSettingsAck()
		p.wantGoAway(http2.ErrCodeProtocol)
	})
}

// TestClientRules sends a server's mistakes.
func TestClientRules(t *testing.T) {
	const protocol = http2.ErrCodeProtocol
	tests := []struct {
		name  string
		do    func(p *peer)
		conn  http2.ErrCode
		reset http2.ErrCode
	}{
		{"push promise", func(p *peer) {
			p.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, protocol, 0},
		{"enable push", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}) }, protocol, 0},
		{"headers on idle", func(p *peer) { p.headers(3, true, ":status", "200") }, protocol, 0},
		{"headers on even", func(p *peer) { p.headers(2, true, ":status", "200") }, protocol, 0},
		{"data on idle", func(p *peer) { p.fr.WriteData(3, true, nil) }, protocol, 0},
		{"data before head", func(p *peer) { p.fr.WriteData(1, true, []byte("x")) }, 0, protocol},
		{"no status", func(p *peer) { p.headers(1, true, "a", "b") }, 0, protocol},
		{"bad status", func(p *peer) { p.headers(1, true, ":status", "2000") }, 0, protocol},
		{"status with letters", func(p *peer) { p.headers(1, true, ":status", "2x0") }, 0, protocol},
		{"method in response", func(p *peer) { p.headers(1, true, ":status", "200", ":method", "GET") }, 0, protocol},
		{"101", func(p *peer) { p.headers(1, false, ":status", "101") }, 0, protocol},
		{"interim that ends", func(p *peer) { p.headers(1, true, ":status", "103") }, 0, protocol},
		{"connection field", func(p *peer) { p.headers(1, true, ":status", "200", "connection", "x") }, 0, protocol},
		{"second head", func(p *peer) {
			p.headers(1, false, ":status", "200")
			p.headers(1, false, ":status", "200")
		}, 0, protocol},
		{"length", func(p *peer) { p.headers(1, true, ":status", "200", "content-length", "5") }, 0, protocol},
		{"head with body", func(p *peer) {
			p.headers(1, false, ":status", "304", "content-length", "5")
			p.fr.WriteData(1, true, []byte("hello"))
		}, 0, protocol},
		{"interim pile", func(p *peer) {
			for range maxPendingHeads + 2 {
				p.headers(1, false, ":status", "103")
			}
		}, 0, http2.ErrCodeEnhanceYourCalm},
		{"head too large", func(p *peer) {
			p.headers(1, false, ":status", "200", "a", strings.Repeat("x", 9000), "b", strings.Repeat("x", 9000))
		}, 0, http2.ErrCodeEnhanceYourCalm},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			cfg := quiet()
			cfg.MaxHeaderListSize = 16 << 10
			script(t, false, cfg, func(p *peer) {
				p.greet()
				s := p.open(request("GET", "/"), 0)
				tt.do(p)
				if tt.conn != 0 {
					p.wantGoAway(tt.conn)
					p.wantClosed()
					return
				}
				p.wantReset(1, tt.reset)
				if se, ok := s.Err().(*StreamError); !ok || se.Code != tt.reset || se.Remote {
					p.Errorf("Err: %v", s.Err())
				}
				s2 := p.open(request("GET", "/"), End) // the connection lives on
				p.headers(3, true, ":status", "200", "content-length", "0")
				if h, err := s2.ReadHead(); err != nil || h.Status != 200 {
					p.Errorf("next stream: %v, %v", h, err)
				}
			})
		})
	}
}

// A server of tunnels answers a head that is no CONNECT with 400, then resets its
// stream as RFC 9113 section 8.1.1 asks for where it is malformed, and tells of it.
func TestMalformedConnect(t *testing.T) {
	for _, tt := range []struct {
		name  string
		end   bool
		head  []string
		reset http2.ErrCode // NO_ERROR: well formed, and no CONNECT
		why   string
	}{
		{"without authority", false, []string{":method", "CONNECT"}, http2.ErrCodeProtocol, ""},
		{"with path", false, append(slices.Clone(connectHead), ":path", "/"), http2.ErrCodeProtocol, ""},
		{"with scheme, ended", true, append(slices.Clone(connectHead), ":scheme", "http"), http2.ErrCodeProtocol, ""},
		{"bad field", false, append(slices.Clone(connectHead), "X", "1"), http2.ErrCodeProtocol, ""},
		{"of another method", false, postHead, http2.ErrCodeNo, "not a CONNECT"},
	} {
		var told []string
		cfg := quiet()
		cfg.Connect = true
		cfg.Refused = func(status int, why string) { told = append(told, fmt.Sprint(status, " ", why)) }
		script(t, true, cfg, func(p *peer) {
			p.greet()
			p.headers(1, tt.end, tt.head...)
			if got := p.wantHead(1); got != ":status=400 content-length=0 END" {
				p.Errorf("%s: %s", tt.name, got)
			}
			p.wantReset(1, tt.reset)
			p.accept(3, false, connectHead...)
			if len(told) != 1 || told[0] == "400 " || !strings.HasSuffix(told[0], tt.why) {
				p.Errorf("%s: told %q", tt.name, told)
			}
		})
	}
}
