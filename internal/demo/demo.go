package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// ErrUnexpected is returned when a row of the tour is not as expected.
var ErrUnexpected = errors.New("demo: not everything went as expected")

// Options of a demo.
type Options struct {
	Waypoint string    // path of the waypoint binary
	Config   string    // directory of manifests; empty: the shop example
	Out      io.Writer // where the table goes
	Keep     bool      // stay up until ctx ends, and print how to call in
}

// Run starts the mesh, takes the tour, prints it, and stops everything.
func Run(ctx context.Context, o Options) (err error) {
	m, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()

	rows := tour(ctx, m)
	bad := 0
	fmt.Fprint(o.Out, "\nclient =HBONE=> waypoint =HBONE=> cart: every line below went through real mTLS tunnels.\n\n")
	w := tabwriter.NewWriter(o.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\tREQUEST\tIDENTITY\tDECISION\tMADE BY\tBACKEND\tSTATUS")
	for _, r := range rows {
		mark := "ok"
		if r.Problem != "" {
			mark = "FAIL"
			bad++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", mark, r.Request, r.Identity, r.Decision, r.By, r.Backend, r.Status)
	}
	w.Flush()
	fmt.Fprintln(o.Out)
	for _, r := range rows {
		if r.Problem != "" {
			fmt.Fprintf(o.Out, "FAIL %s: %s\n", r.Name, r.Problem)
		}
	}
	if bad == 0 {
		fmt.Fprintf(o.Out, "%d of %d as expected. Backends and statuses are what the apps and the client saw; who decided is the waypoint's access log, found by request id.\n", len(rows), len(rows))
	} else {
		err = fmt.Errorf("%w: %d of %d rows", ErrUnexpected, bad, len(rows))
	}
	if o.Keep {
		stay(ctx, m, o.Out)
	}
	return err
}

func stay(ctx context.Context, m *mesh, out io.Writer) {
	fmt.Fprintf(out, "\nThe mesh stays up. Call the cart through it:\n"+
		"  curl http://%[1]s/items/1                       # as clients/curl\n"+
		"  curl -H 'x-canary: true' http://%[1]s/items/1   # the canary\n"+
		"  curl http://%[1]s/orders/7/receipt              # denied by a path template\n"+
		"  curl http://%[2]s/items/1                       # as clients/intruder: denied\n"+
		"  curl http://%[3]s/config_dump                   # what the waypoint serves\n"+
		"  curl 'http://%[3]s/explain?url=http://cart.shop.svc.cluster.local/orders/7/receipt&from=clients/curl&format=text'\n"+
		"Access log: %[4]s\nCtrl-C ends it.\n",
		m.captures["curl"].Addr(), m.captures["intruder"].Addr(), m.waypoint.admin, m.waypoint.log)
	<-ctx.Done()
}
