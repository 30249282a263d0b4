package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// asking is a few clients that ask one question after the other. Each answer but
// 200 and each question without an answer fails the test.
type asking struct {
	r        *rig
	answered atomic.Int64
	stop     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup
}

// ask starts workers that ask through front with these methods in turn, until end or
// the end of the test. Among them should be POST where a lost question matters: a
// GET that dies with a reused connection is sent again by the transport.
func (r *rig) ask(front net.Addr, workers int, methods ...string) *asking {
	a := &asking{r: r, stop: make(chan struct{})}
	for w := range workers {
		a.wg.Go(func() { a.run(front, w, methods) })
	}
	r.t.Cleanup(a.end)
	return a
}

func (a *asking) run(front net.Addr, worker int, methods []string) {
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	for i := 0; ; i++ {
		select {
		case <-a.stop:
			return
		default:
		}
		if err := a.one(tr, methods[i%len(methods)], fmt.Sprintf("http://%v/%d/%d", front, worker, i)); err != nil {
			a.r.t.Error(err)
			return
		}
		a.answered.Add(1)
	}
}

func (a *asking) one(tr *http.Transport, method, url string) error {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("body")
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, url, res.StatusCode, text)
	}
	return err
}

// flow waits until questions go on being answered.
func (a *asking) flow(t *testing.T) {
	t.Helper()
	before := a.answered.Load()
	a.r.eventually("requests go on", func() bool { return a.answered.Load() > before+20 })
}

// end stops the clients and waits for their last answers.
func (a *asking) end() {
	a.once.Do(func() { close(a.stop) })
	a.wg.Wait()
}
