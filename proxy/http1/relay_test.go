package http1

import (
	"fmt"
	"io"
	"strings"

	"waypoint.dev/waypoint/proxy/codec"
)

// receive renders a whole response.
func receive(x codec.Client) (string, error) {
	var out strings.Builder
	for {
		h, err := x.ReadHead()
		if err != nil {
			return out.String(), err
		}
		fmt.Fprintf(&out, "%d ", h.Status)
		if h.Status >= 200 {
			fmt.Fprintf(&out, "%d ", h.Length)
		}
		for _, f := range h.Fields {
			fmt.Fprintf(&out, "%s=%s ", f.Name, f.Value)
		}
		if h.Status >= 200 {
			break
		}
	}
	b, err := io.ReadAll(x)
	if err != nil {
		return out.String(), err
	}
	fmt.Fprintf(&out, "%q", b)
	for _, f := range x.Trailers() {
		fmt.Fprintf(&out, " %s=%s", f.Name, f.Value)
	}
	return out.String(), nil
}
