package hbone

import (
	"sync/atomic"
	"time"
)

// Refusals are logged one by one up to a burst, then one an interval with the
// number of those left out: a scanner must not fill the disk.
const (
	refusalBurst    = 100
	refusalInterval = time.Second
)

type serverStats struct {
	accepted, acceptErrors, overLimit, handshakeErrors atomic.Int64
	tunnels, drained, panics                           atomic.Int64
	refused                                            [5]atomic.Int64
}

// ServerStats are counts since the server was made.
type ServerStats struct {
	Accepted        int64 // connections
	AcceptErrors    int64
	OverLimit       int64 // closed at once because of MaxConns
	HandshakeErrors int64
	Drained         int64 // connections sent away
	Tunnels         int64 // all
	Open            int   // tunnels now
	Panics          int64

	Refused400, Refused403, Refused404, Refused503, RefusedOther int64
}

// Stats returns the counts so far.
func (s *Server) Stats() ServerStats {
	st := &s.stats
	s.mu.Lock()
	open := s.handlers
	s.mu.Unlock()
	return ServerStats{
		Accepted: st.accepted.Load(), AcceptErrors: st.acceptErrors.Load(), OverLimit: st.overLimit.Load(),
		HandshakeErrors: st.handshakeErrors.Load(), Drained: st.drained.Load(),
		Tunnels: st.tunnels.Load(), Open: open, Panics: st.panics.Load(),
		Refused400: st.refused[0].Load(), Refused403: st.refused[1].Load(), Refused404: st.refused[2].Load(),
		Refused503: st.refused[3].Load(), RefusedOther: st.refused[4].Load(),
	}
}

func refusedIndex(status int) int {
	switch status {
	case 400:
		return 0
	case 403:
		return 1
	case 404:
		return 2
	case 503:
		return 3
	}
	return 4
}

// refused counts and logs a refusal.
func (s *Server) refused(t *Tunnel, status int, reason string) {
	s.stats.refused[refusedIndex(status)].Add(1)
	if !s.refusal.Allow() {
		s.muted.Add(1)
		return
	}
	s.log.Warn("tunnel refused", "status", status, "reason", reason, "peer", t.link.peer.URI,
		"addr", t.link.peerAddr, "authority", t.authority, "unlogged", s.muted.Swap(0))
}

type poolStats struct {
	dials, dialErrors, dead, retired, opened, refused, retries atomic.Int64
}

// PoolStats are counts since the pool was made, and its size now.
type PoolStats struct {
	Dials      int64 // connections dialed
	DialErrors int64 // of these, failed
	Dead       int64 // connections given up because no PING was answered
	Retired    int64 // connections that stopped taking tunnels before they were idle
	Opened     int64 // tunnels
	Refused    int64 // CONNECTs answered with another status than 200
	Retries    int64 // CONNECTs moved to another connection

	Conns, Tunnels, Waiting int // now
}
