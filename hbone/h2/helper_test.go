package h2

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type handlerFunc func(*Stream)

func (f handlerFunc) ServeStream(s *Stream) { f(s) }

// testCert is a self-signed certificate for loopback.
var testCert = func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}()

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCert}, NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true}
}

func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true}
}

// listen returns a loopback listener that closes with the test.
func listen(tb testing.TB) net.Listener {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	return ln
}

// tcpPair returns two connected TCP connections.
func tcpPair(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	ln := listen(tb)
	got := make(chan net.Conn, 1)
	go func() {
		c, _ := ln.Accept()
		got <- c
	}()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	server = <-got
	if server == nil {
		tb.Fatal("no connection")
	}
	return client, server
}

// tlsPair returns two ends of a TLS connection over loopback, corked.
func tlsPair(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	a, b := tcpPair(tb)
	tc, ts := tls.Client(NewCork(a), clientTLS()), tls.Server(NewCork(b), serverTLS())
	errc := make(chan error, 1)
	go func() { errc <- ts.Handshake() }()
	if err := tc.Handshake(); err != nil {
		tb.Fatal(err)
	}
	if err := <-errc; err != nil {
		tb.Fatal(err)
	}
	return tc, ts
}

// pair runs both ends of a connection of ours until the test ends.
func pair(tb testing.TB, a, b net.Conn, cc, sc Config, h Handler) (client, server *Conn) {
	tb.Helper()
	client, server = NewClient(a, cc), NewServer(b, sc, h)
	go client.Serve()
	go server.Serve()
	tb.Cleanup(func() {
		client.Close(nil)
		server.Close(nil)
		<-client.Done()
		<-server.Done()
	})
	return client, server
}

// echo answers 200 and sends back what comes.
var echo = handlerFunc(func(s *Stream) {
	if s.WriteHead(&Head{Status: 200}, 0) != nil {
		return
	}
	if _, err := s.WriteTo(s); err == nil {
		s.CloseWrite()
	}
})
