package proxy

import (
	"strconv"
	"sync/atomic"
	"time"
)

// imfFixdate is the form of date headers (RFC 9110 section 5.6.7).
const imfFixdate = "Mon, 02 Jan 2006 15:04:05 GMT"

// dates gives the value of the date header. It is formatted once a second, which
// is as fine as the header gets.
type dates struct{ last atomic.Pointer[dated] }

type dated struct {
	unix int64
	text string
}

func (d *dates) at(now time.Time) string {
	unix := now.Unix()
	if l := d.last.Load(); l != nil && l.unix == unix {
		return l.text
	}
	l := &dated{unix: unix, text: now.UTC().Format(imfFixdate)}
	d.last.Store(l)
	return l.text
}

// millis are the decimal texts of small numbers, for headers that count
// milliseconds on every response.
var millis = func() (t [1024]string) {
	for i := range t {
		t[i] = strconv.Itoa(i)
	}
	return t
}()

// decimal returns n in decimal; small numbers do not allocate.
func decimal(n int64) string {
	if 0 <= n && n < int64(len(millis)) {
		return millis[n]
	}
	return strconv.FormatInt(n, 10)
}
