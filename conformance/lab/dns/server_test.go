package dns

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"waypoint.dev/waypoint/conformance/lab/cluster/clustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func query(t testing.TB, name string, typ dnsmessage.Type) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
	if err := b.StartQuestions(); err != nil {
		t.Fatal(err)
	}
	if err := b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}); err != nil {
		t.Fatal(err)
	}
	out, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// read returns the code and the addresses of an answer to question 7.
func read(t *testing.T, answer []byte) (dnsmessage.RCode, []string) {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(answer); err != nil {
		t.Fatal(err)
	}
	if m.ID != 7 || !m.Response || !m.Authoritative || len(m.Questions) != 1 {
		t.Errorf("header %+v", m.Header)
	}
	out := []string{}
	for _, a := range m.Answers {
		out = append(out, fmt.Sprint(net.IP(a.Body.(*dnsmessage.AResource).A[:])))
	}
	slices.Sort(out)
	return m.RCode, out
}

func TestAnswers(t *testing.T) {
	s := &Server{view: clustertest.New(t, clustertest.Shop...)}
	for _, tc := range []struct {
		name string
		typ  dnsmessage.Type
		code dnsmessage.RCode
		want string
	}{
		{"web.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "[10.96.0.10]"},
		{"WEB.Shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "[10.96.0.10]"},
		// A name that exists has no address of the other family, which is no error: musl and Go ask for both.
		{"web.shop.svc.cluster.local.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, "[]"},
		{"headless.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "[10.244.1.1 10.244.1.3]"},
		{"empty.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "[10.96.0.11]"},
		{"gone.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "[]"},
		{"web.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "[]"},
		{"a.web.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "[]"},
		{"example.com.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "[]"},
		{".", dnsmessage.TypeA, dnsmessage.RCodeNameError, "[]"},
	} {
		out, err := s.answer(query(t, tc.name, tc.typ))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if code, got := read(t, out); code != tc.code || fmt.Sprint(got) != tc.want {
			t.Errorf("%s %v: %v %v, want %v %s", tc.name, tc.typ, code, got, tc.code, tc.want)
		}
	}
}

func TestServes(t *testing.T) {
	s, err := Serve(clustertest.New(t, clustertest.Shop...), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := net.Dial("udp4", s.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	// What is no query gets no answer, and the next one does.
	for _, q := range [][]byte{{1, 2, 3}, query(t, "web.shop.svc.cluster.local.", dnsmessage.TypeA)} {
		if _, err := c.Write(q); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, got := read(t, buf[:n]); fmt.Sprint(got) != "[10.96.0.10]" {
		t.Errorf("%v", got)
	}
}

func FuzzAnswer(f *testing.F) {
	s := &Server{view: clustertest.New(f, clustertest.Shop...)}
	f.Add(query(f, "web.shop.svc.cluster.local.", dnsmessage.TypeA))
	f.Add(query(f, "headless.shop.svc.cluster.local.", dnsmessage.TypeAAAA))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, q []byte) {
		out, err := s.answer(q)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil || !m.Response {
			t.Errorf("%v: %x", err, out)
		}
	})
}
