package hbone

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
)

// TestRecordsInEffect fails on a toolchain where connections are read the slow
// way: correct, but with an allocation for each record. Look at records.go then.
func TestRecordsInEffect(t *testing.T) {
	if !recordsOK {
		t.Fatal("reading ahead of crypto/tls is off on this toolchain")
	}
}

// sealer is the sending half of a TLS 1.3 connection in the hands of a test: it
// makes records that crypto/tls would not send. Suite TLS_AES_128_GCM_SHA256.
type sealer struct {
	t      testing.TB
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
	out    []byte // records made and not sent
}

func (s *sealer) expand(label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "+label+"\x00"...)
	k, err := hkdf.Expand(sha256.New, s.secret, string(info), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return k
}

func (s *sealer) rekey(secret []byte) {
	s.secret, s.seq = secret, 0
	block, err := aes.NewCipher(s.expand("key", 16))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		s.t.Fatal(err)
	}
	s.iv = s.expand("iv", 12)
}

// record appends one protected record.
func (s *sealer) record(typ byte, p []byte) {
	nonce := bytes.Clone(s.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(s.seq >> (56 - 8*i))
	}
	s.seq++
	n := len(p) + 1 + s.aead.Overhead()
	hdr := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	s.out = append(s.out, hdr...)
	s.out = s.aead.Seal(s.out, nonce, append(bytes.Clone(p), typ), hdr)
}

func (s *sealer) data(p []byte) { s.record(23, p) }

func (s *sealer) keyUpdate(answer byte) {
	s.record(22, []byte{24, 0, 0, 1, answer})
	s.rekey(s.expand("traffic upd", 32))
}

func (s *sealer) alert(level, what byte) { s.record(21, []byte{level, what}) }

// secretOf finds the client's secret in a key log.
type keyLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (k *keyLog) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.b.Write(p)
}

func (k *keyLog) secret(t testing.TB) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	for line := range strings.Lines(k.b.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			b, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatal("no secret in the key log")
	return nil
}

// recordPair connects over loopback; the server's end reads fast or as crypto/tls
// does, and what the client's end sends is in the test's hands.
func recordPair(t testing.TB, m *mesh, fast bool) (server net.Conn, raw *net.TCPConn, s *sealer) {
	ln, addr := listen(t)
	defer ln.Close()
	nc, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	sc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var keys keyLog
	cfg := identity.ClientTLS(m.client, nil)
	cfg.KeyLogWriter = &keys
	client := tls.Client(nc, cfg)
	src := source(sc)
	tc := tls.Server(src, identity.ServerTLS(m.server))
	done := make(chan error, 1)
	go func() { done <- tc.Handshake() }()
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	if client.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatal("the test knows one cipher suite only")
	}
	s = &sealer{t: t}
	s.rekey(keys.secret(t))
	server = tc
	if fast {
		server = withRecords(tc, src)
	}
	go io.Copy(io.Discard, struct{ io.Reader }{nc}) // tickets, answers to key updates
	t.Cleanup(func() { nc.Close(); server.Close() })
	return server, nc.(*net.TCPConn), s
}

// outcome is what a reader saw.
type outcome struct {
	data string
	err  string
}

func readAll(c net.Conn, size int) outcome {
	var got bytes.Buffer
	p := make([]byte, size)
	for {
		n, err := c.Read(p)
		got.Write(p[:n])
		if err != nil {
			var alert tls.AlertError
			var rh tls.RecordHeaderError
			_, again := c.Read(p) // the same, and without waiting
			switch {
			case !errors.Is(again, err) && again.Error() != err.Error():
				return outcome{got.String(), err.Error() + ", then " + again.Error()}
			case errors.As(err, &alert):
				return outcome{got.String(), alert.Error()}
			case errors.As(err, &rh):
				return outcome{got.String(), rh.Msg}
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return outcome{got.String(), err.Error()}
			}
			e := err.Error()
			return outcome{got.String(), e[strings.LastIndex(e, ":")+1:]}
		}
	}
}

// TestRecordsAsTLS reads the same bytes from the network with and without
// records: what is read and how it ends must not differ.
func TestRecordsAsTLS(t *testing.T) {
	m := newMesh(t)
	block := bytes.Repeat([]byte("0123456789abcdef"), 1024)
	cases := map[string]func(*sealer){
		"one":        func(s *sealer) { s.data([]byte("hello")); s.alert(1, 0) },
		"many small": func(s *sealer) { fill(s, 500, 37); s.alert(1, 0) },
		"middling":   func(s *sealer) { fill(s, 50, 3000); s.alert(1, 0) },
		"full":       func(s *sealer) { fill(s, 40, 16<<10); s.alert(1, 0) },
		"mixed":      func(s *sealer) { fill(s, 3, 1); fill(s, 3, 16<<10); fill(s, 3, 5000); fill(s, 9, 11); s.alert(1, 0) },
		"key update": func(s *sealer) {
			fill(s, 3, 900)
			s.keyUpdate(0)
			fill(s, 3, 900)
			s.keyUpdate(1)
			fill(s, 3, 9000)
			s.alert(1, 0)
		},
		"empty records":  func(s *sealer) { fill(s, 5, 0); fill(s, 2, 10); fill(s, 5, 0); fill(s, 2, 10); s.alert(1, 0) },
		"too many empty": func(s *sealer) { fill(s, 2, 10); fill(s, 40, 0) },
		"fatal alert":    func(s *sealer) { fill(s, 2, 10); s.alert(2, 40) },
		"no close":       func(s *sealer) { fill(s, 2, 10) },
		"cut record":     func(s *sealer) { fill(s, 2, 10); s.data(block); s.out = s.out[:len(s.out)-7] },
		"cut header":     func(s *sealer) { fill(s, 2, 10); s.data(block); s.out = append(s.out, 23, 3) },
		"forged":         func(s *sealer) { fill(s, 2, 10); s.data(block); s.out[len(s.out)-1] ^= 1; fill(s, 2, 10) },
		"too long":       func(s *sealer) { fill(s, 2, 10); s.out = append(s.out, 23, 3, 3, 0x41, 1); fill(s, 9, 4000) },
		"longest":        func(s *sealer) { s.data(append(block, 0)[:16<<10]); s.record(0, append(block, 23)); s.alert(1, 0) },
		"bad version":    func(s *sealer) { fill(s, 2, 10); s.out = append(s.out, 23, 3, 1, 0, 20); fill(s, 2, 10) },
		"not TLS":        func(s *sealer) { fill(s, 2, 10); s.out = append(s.out, "GET / HTTP/1.1\r\n\r\n"...) },
	}
	for name, script := range cases {
		pairs := [][2]int{{1, 2048}, {1500, 1}, {1 << 20, 2048}, {6, 64 << 10}, {1500, 64 << 10}}
		if raceEnabled {
			pairs = pairs[:3] // it makes handshakes dear and finds nothing new in the others
		}
		for _, sizes := range pairs {
			piece, size := sizes[0], sizes[1]
			var got [2]outcome
			for i := range got {
				server, raw, s := recordPair(t, m, i == 1)
				script(s)
				go func() {
					defer raw.CloseWrite()
					sent, piece := 0, piece
					for sent < len(s.out) {
						n, err := raw.Write(s.out[sent:min(sent+piece, len(s.out))])
						if err != nil {
							return
						}
						if sent += n; sent > 2000 {
							piece = max(piece, 4000) // the start was broken up enough
						}
					}
				}()
				got[i] = readAll(server, size)
			}
			if got[0] != got[1] {
				t.Errorf("%s in pieces of %d read by %d: %d bytes and %q, with records %d and %q", name, piece, size,
					len(got[0].data), got[0].err, len(got[1].data), got[1].err)
			}
		}
	}
}

func fill(s *sealer, n, size int) {
	for i := range n {
		s.data(bytes.Repeat([]byte{byte('a' + i%26)}, size))
	}
}

// TestRecordsDeadline moves deadlines around a reader and reads on behind them.
func TestRecordsDeadline(t *testing.T) {
	server, raw, s := recordPair(t, newMesh(t), true)
	p := make([]byte, 100)
	s.data([]byte("whole"))
	s.data([]byte("in two parts"))
	cut := len(s.out) - 5
	for _, deadline := range []time.Time{time.Unix(1, 0), time.Now().Add(time.Millisecond)} {
		server.SetReadDeadline(deadline)
		if _, err := server.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Read behind its deadline: %v", err)
		}
	}
	server.SetReadDeadline(time.Time{})
	raw.Write(s.out[:cut])
	if n, err := server.Read(p); err != nil || string(p[:n]) != "whole" {
		t.Fatalf("Read = %q, %v", p[:n], err)
	}
	server.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := server.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Read of half a record behind its deadline: %v", err)
	}
	server.SetReadDeadline(time.Time{})
	raw.Write(s.out[cut:])
	if n, err := server.Read(p); err != nil || string(p[:n]) != "in two parts" {
		t.Fatalf("Read = %q, %v", p[:n], err)
	}
}

// TestRecordsClose closes under a waiting reader, and resets under another.
func TestRecordsClose(t *testing.T) {
	m := newMesh(t)
	for name, end := range map[string]func(net.Conn, *net.TCPConn){
		"close": func(c net.Conn, _ *net.TCPConn) { c.Close() },
		"reset": func(_ net.Conn, raw *net.TCPConn) { raw.SetLinger(0); raw.Close() },
	} {
		var got [2]outcome
		for i := range got {
			server, raw, s := recordPair(t, m, i == 1)
			s.data([]byte("x"))
			raw.Write(s.out)
			p := make([]byte, 1)
			if _, err := server.Read(p); err != nil {
				t.Fatal(err)
			}
			res := make(chan outcome, 1)
			go func() { res <- readAll(server, 10) }()
			end(server, raw)
			got[i] = <-res
		}
		if got[0] != got[1] {
			t.Errorf("%s: %q, with records %q", name, got[0].err, got[1].err)
		}
	}
}

// TestRecordsIdle holds what a waiting connection keeps: no buffer.
func TestRecordsIdle(t *testing.T) {
	server, raw, s := recordPair(t, newMesh(t), true)
	r := server.(*records)
	fill(s, 20, 16<<10)
	go raw.Write(s.out)
	if _, err := io.CopyN(io.Discard, server, 20*16<<10); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if r.buf != nil {
		t.Errorf("a waiting connection holds %d bytes", len(r.buf.b))
	}
}

// TestRecordsAllocs is the reason for records: reading allocates nothing.
func TestRecordsAllocs(t *testing.T) {
	if raceEnabled {
		return // it makes sync.Pool forget at random
	}
	server, raw, s := recordPair(t, newMesh(t), true)
	fill(s, 1000, 1000)
	rec := len(s.out) / 1000
	p := make([]byte, 2000)
	if n := testing.AllocsPerRun(500, func() {
		raw.Write(s.out[:rec])
		s.out = s.out[rec:]
		if n, err := server.Read(p); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}

func BenchmarkRecords(b *testing.B) {
	m := newMesh(b)
	for _, fast := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "records"}[fast], func(b *testing.B) {
			server, raw, s := recordPair(b, m, fast)
			p := make([]byte, 2000)
			s.out = make([]byte, 0, 2000)
			b.ReportAllocs()
			for b.Loop() {
				s.out = s.out[:0]
				s.data(p[:1000])
				raw.Write(s.out)
				if n, err := server.Read(p); n != 1000 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
