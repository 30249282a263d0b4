package envoy

import (
	"context"
	"fmt"
	"strings"
)

// held stands for [Question.Beside] of connections without HTTP.
const held = "connection"

// hold makes the request beside which q is asked, on a connection of its own, and
// waits until the application has it. release ends it.
func (a *Asker) hold(q *Question) (release func(), err error) {
	other := *q
	other.ID, other.Tries, other.Beside, other.Twice = q.ID+"-held", q.Beside, "", false
	f := a.Fork()
	if q.Beside == held {
		t, err := f.tunnel(f.key(&other))
		if err == nil {
			if _, err = t.c.Write(q.Raw); err == nil {
				_, err = t.br.ReadString('\n')
			}
		}
		return f.Close, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = f.Ask(&other) // it ends without an answer
	}()
	release = func() {
		// The connections are closed under the one who asks; its tunnels are its own.
		for _, c := range f.conns {
			c.Close()
		}
		<-done
		f.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), arrival)
	defer cancel()
	if want := strings.Count(q.Beside, ",") + 1; !a.tries.await(ctx, a.side, other.ID, want) {
		return release, fmt.Errorf("%s: %v: the request beside it did not arrive", a.side, q)
	}
	return release, nil
}

// twice asks q on two connections at once and returns the answer that comes first;
// the other one is given up.
func (a *Asker) twice(q *Question) (Answer, error) {
	type result struct {
		Answer
		err error
	}
	out := make(chan result, 2)
	var forks []*Asker
	for range 2 {
		f := a.Fork()
		forks = append(forks, f)
		// The connection is there before the race, which is for the backend's alone.
		if _, err := f.tunnel(f.key(q)); err != nil {
			return Answer{}, err
		}
	}
	for _, f := range forks {
		go func() {
			ans, err := f.Ask(q)
			out <- result{ans, err}
		}()
	}
	first := <-out
	for _, f := range forks {
		for _, c := range f.conns {
			c.Close()
		}
	}
	<-out
	for _, f := range forks {
		f.Close()
	}
	return first.Answer, first.err
}
