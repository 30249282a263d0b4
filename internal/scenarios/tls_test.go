package scenarios

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// roots is an authority that this process takes for one of the system's.
var roots struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

// trustTestRoots makes it, before anything looks at the system's certificates.
func trustTestRoots() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	if roots.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	f, err := os.CreateTemp("", "roots-*.pem")
	if err != nil {
		return err
	}
	defer f.Close()
	roots.key, roots.file = key, f.Name()
	if err := pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return err
	}
	return os.Setenv("SSL_CERT_FILE", f.Name())
}

// serveTLS is serveApp behind a certificate for host.
func serveTLS(host string) func(*testing.T, net.Listener, string) {
	return func(t *testing.T, ln net.Listener, name string) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{host}}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, roots.cert, &key.PublicKey, roots.key)
		if err != nil {
			t.Fatal(err)
		}
		conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}}
		var p http.Protocols
		p.SetHTTP1(true)
		p.SetHTTP2(true)
		serveHandler(t, tls.NewListener(ln, conf), name, &http.Server{Protocols: &p, TLSConfig: conf})
	}
}

// serveBehindPROXY is serveApp for connections that begin with a PROXY protocol
// header of version 2.
func serveBehindPROXY(t *testing.T, ln net.Listener, name string) {
	serveApp(t, proxyListener{ln}, name)
}

type proxyListener struct{ net.Listener }

func (l proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &proxyConn{Conn: c, r: bufio.NewReader(c)}, nil
}

type proxyConn struct {
	net.Conn
	r    *bufio.Reader
	past bool
}

func (c *proxyConn) Read(b []byte) (int, error) {
	if !c.past {
		var head [16]byte
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			return 0, err
		}
		if string(head[:12]) != "\r\n\r\n\x00\r\nQUIT\n" || head[12]>>4 != 2 {
			return 0, errors.New("no PROXY header")
		}
		if _, err := c.r.Discard(int(binary.BigEndian.Uint16(head[14:]))); err != nil {
			return 0, err
		}
		c.past = true
	}
	return c.r.Read(b)
}
