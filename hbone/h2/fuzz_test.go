package h2

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"waypoint.dev/waypoint/internal/attrs"
)

// FuzzConn feeds arbitrary bytes to either role. The connection must end without
// a panic, and its streams and memory with it.
func FuzzConn(f *testing.F) {
	for _, seed := range fuzzSeeds() {
		f.Add(true, seed)
		f.Add(false, seed)
	}
	f.Fuzz(func(t *testing.T, server bool, in []byte) {
		ours, theirs := memPair(0)
		cfg := quiet()
		cfg.MaxHeaderListSize = 4 << 10
		var c *Conn
		if server {
			c = NewServer(ours, cfg, echo)
			io.WriteString(theirs, http2.ClientPreface)
		} else {
			c = NewClient(ours, cfg)
		}
		fr := http2.NewFramer(theirs, nil)
		fr.WriteSettings()
		served := make(chan error, 1)
		go func() { served <- c.Serve() }()
		var s *Stream
		if !server {
			s, _ = c.Open(request("POST", "/"), 0)
			if s != nil {
				go func() {
					s.Write(make([]byte, 100))
					s.ReadHead()
					io.Copy(io.Discard, s)
					s.Close()
				}()
			}
		}
		theirs.Write(in)
		theirs.CloseWrite()
		go io.Copy(io.Discard, theirs)
		err := <-served
		theirs.Close()
		if ce := (*ConnError)(nil); errors.As(err, &ce) && !ce.Remote && ce.Code == http2.ErrCodeInternal {
			t.Errorf("internal error: %v", err)
		}
		if n := c.OpenStreams(); n != 0 {
			t.Errorf("%d streams outlive the connection", n)
		}
	})
}

// fuzzSeeds are frames that reach every handler of Serve.
func fuzzSeeds() [][]byte {
	var buf, hb bytes.Buffer
	fr := http2.NewFramer(&buf, nil)
	fr.AllowIllegalWrites = true
	enc := hpack.NewEncoder(&hb)
	head := func(kv ...string) []byte {
		hb.Reset()
		for i := 0; i < len(kv); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
		}
		return bytes.Clone(hb.Bytes())
	}
	var seeds [][]byte
	add := func(fs ...func()) {
		buf.Reset()
		for _, f := range fs {
			f()
		}
		seeds = append(seeds, bytes.Clone(buf.Bytes()))
	}
	get := func() {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head(postHead...), EndHeaders: true, PadLength: 3})
	}
	answer := func() {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head(":status", "200", "content-length", "4"), EndHeaders: true})
	}
	data := func() { fr.WriteDataPadded(1, true, []byte("data"), make([]byte, 9)) }
	add(get, data)
	add(answer, data)
	add(func() {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head(getHead...)[:2], EndStream: true})
	}, func() { fr.WriteContinuation(1, true, head("a", "b")) })
	add(get, func() { fr.WriteRSTStream(1, http2.ErrCodeCancel) }, func() { fr.WriteWindowUpdate(1, 5) })
	add(func() { fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}) }, get, data)
	add(func() { fr.WritePing(false, [8]byte{1}) }, func() { fr.WriteGoAway(0, 2, []byte("bye")) })
	add(func() { fr.WritePriority(3, http2.PriorityParam{StreamDep: 1}) }, func() { fr.WriteRawFrame(0xee, 1, 9, []byte("x")) })
	add(func() { fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true}) })
	return seeds
}

// FuzzHead decodes what our encoder made of a head.
func FuzzHead(f *testing.F) {
	f.Add("GET", "/x", "a", "name", "value", uint16(200))
	f.Add("CONNECT", "", "10.0.0.1:80", "authorization", "secret", uint16(0))
	f.Add("", "", "", "grpc-status", "0", uint16(0))
	f.Fuzz(func(t *testing.T, method, path, authority, name, value string, status uint16) {
		var h Head
		var want []attrs.Field
		switch {
		case method != "":
			h = Head{Method: method, Scheme: "https", Path: path, Authority: authority}
			want = append(want, field(":method", method))
			if method != "CONNECT" {
				want = append(want, field(":scheme", "https"), field(":path", path))
			}
			if authority != "" {
				want = append(want, field(":authority", authority))
			}
		case status%900 != 0:
			h.Status = 100 + int(status)%900
			want = append(want, field(":status", strconv.Itoa(h.Status)))
		}
		h.Fields = []attrs.Field{field(name, value), field("content-type", value)}
		want = append(want, h.Fields...)
		block := appendBlock(nil, &h)
		if len(block) > headSize(&h) {
			t.Errorf("%d bytes, headSize says %d", len(block), headSize(&h))
		}
		fields, err := hpack.NewDecoder(0, nil).DecodeFull(block)
		if err != nil {
			t.Fatal(err)
		}
		var got []attrs.Field
		for _, f := range fields {
			got = append(got, field(f.Name, f.Value))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
