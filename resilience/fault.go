package resilience

import "time"

// Fraction is a share Num/Den of requests. The zero value is none: a fault
// without a percentage does nothing, as in Istio.
type Fraction struct{ Num, Den uint32 }

// hit draws.
func (f Fraction) hit(random func() uint64) bool {
	if f.Num == 0 || f.Den == 0 {
		return false
	}
	return f.Num >= f.Den || uint32(random()%uint64(f.Den)) < f.Num
}

// Fault is injected failure of a route. Only configuration decides: request
// headers such as x-envoy-fault-delay-request are not honoured.
type Fault struct {
	Delay      time.Duration
	DelayShare Fraction

	AbortStatus int    // HTTP; 0: none
	AbortGRPC   string // grpc-status, instead of AbortStatus; empty: none
	AbortShare  Fraction
}

// Injection is what happens to one request: first the delay (flag DI), then the
// abort (flag FI, body "fault filter abort").
type Injection struct {
	Delay  time.Duration // 0: none
	Abort  bool
	Status int    // HTTP status of the abort; 200 for GRPC
	GRPC   string // grpc-status of the abort, else empty
}

// Draw decides for one request. A nil Fault does nothing. Delay and abort are
// drawn independently.
func (f *Fault) Draw(random func() uint64) Injection {
	var i Injection
	if f == nil {
		return i
	}
	if f.Delay > 0 && f.DelayShare.hit(random) {
		i.Delay = f.Delay
	}
	if (f.AbortStatus != 0 || f.AbortGRPC != "") && f.AbortShare.hit(random) {
		i.Abort, i.Status, i.GRPC = true, f.AbortStatus, f.AbortGRPC
		if i.GRPC != "" {
			i.Status = 200
		}
	}
	return i
}
