package h2

import "time"

// Defaults of Config, and the bounds that guard a connection against its peer.
const (
	defaultMaxStreams     = 100              // Envoy's waypoint advertises 100
	defaultMaxFrame       = 16 << 10         // RFC 9113 section 6.5.2
	defaultMaxHeaderList  = 64 << 10         // as ztunnel's server
	defaultStreamWindow   = 64 << 10         // small: RFC 9113's own default, rounded up
	defaultMaxStreamWin   = 4 << 20          // as ztunnel
	defaultConnWindow     = 1 << 20          // 16 streams' worth
	defaultMaxConnWin     = 16 << 20         // as ztunnel
	defaultKeepalive      = 10 * time.Second // as ztunnel and Istio's connect_terminate
	defaultKeepaliveReply = 20 * time.Second // as both
	assumedPeerStreams    = 100              // until SETTINGS come: RFC 9113 section 6.5.2, ztunnel
	minStreamWindow       = 16 << 10         // one frame: less only makes frames and updates small
	maxWindow             = 1<<31 - 1        // RFC 9113 section 6.9.1
	initialWindow         = 65535            // RFC 9113 section 6.9.2
	minMaxFrame           = 1 << 14          // RFC 9113 section 6.5.2
	maxMaxFrame           = 1<<24 - 1        // RFC 9113 section 6.5.2
	frameHeaderLen        = 9                // RFC 9113 section 4.1
	maxStreamID           = 1<<31 - 1        // RFC 9113 section 5.1.1

	// Suspicious but legal frames (SETTINGS, PING with no DATA between, empty
	// frames, refused or prematurely reset streams, frames on closed ones,
	// stream errors) take a token each: nghttp2's stream_reset_rate and
	// glitch_rate, 1000 at once and 33 a second.
	glitchBurst = 1000
	glitchRate  = 33

	// PRIORITY frames allowed per stream opened: Envoy's
	// max_inbound_priority_frames_per_stream.
	priorityPerStream = 100

	// WINDOW_UPDATE frames allowed: Envoy's 5 + 2 * (streams + 10 * DATA frames
	// sent), with one more for every 512 bytes sent, since our frames are large.
	updatesBase      = 5
	updatesPerStream = 2
	updatesPerData   = 20
	bytesPerUpdate   = 512

	// CONTINUATION frames of one head: nghttp2's max_continuations is 8; a head
	// as large as we accept may need more, see Conn.maxBlock.
	maxContinuations = 8

	// Control frames that wait while the peer does not read: Envoy's
	// max_outbound_control_frames.
	maxControl = 1000

	// Interim responses waiting to be read by ReadHead.
	maxPendingHeads = 16

	// DATA that waits in the write buffer. Two 16 KiB frames fill a flush that is
	// worth its system call, four keep a flusher busy while others append.
	maxBuffered = 64 << 10
	// The largest DATA frame we send, whatever the peer allows: more would hold
	// up the other streams behind it.
	maxDataFrame = 32 << 10
	// A round of a flush smaller than this yields the processor, so that others that
	// are about to write can join it. At 4 KiB an echo of 1 KiB on 16 streams over
	// TLS costs 3.9 us, at 1 KiB 10.4 us (BenchmarkEcho); more gains nothing.
	gatherBelow = 4 << 10
	// It yields twice: to those who are about to write, and to those that a reader
	// wakes meanwhile. The second is worth 2 % of what a request costs at 4 to 16
	// streams (docs: performance); a third adds nothing.
	gatherYields = 2
	// After so many rounds a flusher hands over to a fresh goroutine: its caller
	// has waited long enough for the frames of others.
	maxFlushRounds = 8

	prefaceTimeout = 10 * time.Second // for the preface and first SETTINGS, as a TLS handshake gets
	goAwayWait     = time.Second      // between the two GOAWAY when no PING answer comes
	lingerTimeout  = time.Second      // for the peer to read what we sent last
	growFloor      = time.Millisecond // the least round trip that window growth assumes
)

// A bucket counts suspicious events: it holds up to burst tokens and regains
// rate a second. Owned by the reader.
type bucket struct {
	tokens float64
	last   time.Time
}

func (b *bucket) take(now time.Time) bool {
	if b.last.IsZero() {
		b.tokens = glitchBurst
	} else {
		b.tokens = min(glitchBurst, b.tokens+glitchRate*now.Sub(b.last).Seconds())
	}
	b.last = now
	b.tokens--
	return b.tokens >= 0
}

func or[T uint32 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// withDefaults fills the zero fields and bounds the others by what RFC 9113
// allows.
func (c Config) withDefaults() Config {
	c.MaxConcurrentStreams = or(c.MaxConcurrentStreams, defaultMaxStreams)
	c.PeerStreams = or(c.PeerStreams, assumedPeerStreams)
	c.MaxFrameSize = min(max(or(c.MaxFrameSize, defaultMaxFrame), minMaxFrame), maxMaxFrame)
	c.MaxHeaderListSize = or(c.MaxHeaderListSize, defaultMaxHeaderList)
	c.StreamWindow = min(max(or(c.StreamWindow, defaultStreamWindow), minStreamWindow), maxWindow)
	c.MaxStreamWindow = min(max(or(c.MaxStreamWindow, defaultMaxStreamWin), c.StreamWindow), maxWindow)
	// A connection's window can only be raised above the RFC's 65,535.
	c.ConnWindow = min(max(or(c.ConnWindow, defaultConnWindow), initialWindow), maxWindow)
	c.MaxConnWindow = min(max(or(c.MaxConnWindow, defaultMaxConnWin), c.ConnWindow), maxWindow)
	c.KeepaliveInterval = or(c.KeepaliveInterval, defaultKeepalive)
	c.KeepaliveTimeout = or(c.KeepaliveTimeout, defaultKeepaliveReply)
	return c
}
