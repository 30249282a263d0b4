package h2

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"waypoint.dev/waypoint/internal/attrs"
)

// A Conn is one HTTP/2 connection in either role. [NewServer] and [NewClient]
// make one; somebody must run its Serve.
type Conn struct {
	// Fixed after New.
	nc       net.Conn
	cork     *Cork // below nc, or nil
	cfg      Config
	handler  Handler // nil for a client
	server   bool
	start    time.Time
	maxBlock int // bytes of one encoded head
	done     chan struct{}
	draining chan struct{}
	finished chan struct{} // finish is over

	ending   atomic.Bool  // state is stateEnding, for the reader
	lastRead atomic.Int64 // nanoseconds since start of the last network read
	rtt      atomic.Int64 // least round trip seen, in nanoseconds; 0: unknown

	// The connection's receive window.
	recvAvail   atomic.Int64 // what the peer may still send
	recvUnacked atomic.Int64 // consumed, not yet granted again
	recvWindow  atomic.Int64 // its size now
	recvGrant   atomic.Int64 // nanoseconds since start of the last grant

	// Owned by the goroutine of Serve.
	rd          reader
	fr          *http2.Framer
	dec         *hpack.Decoder
	asm         headAssembler
	fields      []attrs.Field // scratch of the decoder
	glitches    bucket
	priorities  int  // PRIORITY frames received
	dataSeen    bool // a DATA frame since the last PING
	sawSettings bool

	mu sync.Mutex // guards all below; taken before a Stream's mu

	// Streams.
	streams     map[uint32]*Stream
	handlers    int    // goroutines of peer-opened streams
	opened      int    // streams ever opened, by either side
	nextID      uint32 // client: id of the next stream
	maxPeerID   uint32 // server: highest stream id seen
	localResets closedIDs
	peerEnds    closedIDs

	// Writing.
	wbuf        []byte           // frames to flush; nil when empty
	taken       int64            // bytes of wbuf that were given to a flush so far
	handed      int64            // of these, what nc took
	unsent      map[uint32]int64 // DATA bytes that never left, by stream; see Stream.Unsent
	control     int              // control frames among them
	flushing    bool
	flushSize   int // bytes of the last flush
	flushSeq    uint64
	flushed     sync.Cond // a flush ended
	turns       int       // streams taken from waiters that have not run yet: 0 or 1
	waiters     waitList
	room        sync.Cond // there is room in wbuf again
	roomWaiters int
	sendWin     int64 // connection's send window
	updates     int64 // WINDOW_UPDATE frames that the peer may still send
	hpackInit   bool  // the first header block was written

	// The peer's settings.
	peerWindow    int64
	peerMaxFrame  int
	peerStreams   uint32
	peerConnectOK bool // SETTINGS_ENABLE_CONNECT_PROTOCOL

	// Its end.
	state      connState
	err        error
	goneAway   bool // we sent GOAWAY, or the peer did: no new streams
	shutdown   bool // Shutdown was called
	finalGoing bool // server: the last GOAWAY, which names a stream, is out
	drainSaid  bool

	// Timers and pings.
	pings         []*ping
	pingSeq       uint64
	settingsAt    time.Time // our SETTINGS went out
	settingsAcked bool
	keepalive     *time.Timer
	keepPing      *ping
	age           *time.Timer
	preface       *time.Timer
	goAwayTimer   *time.Timer
	stall         *time.Timer
	stallArmed    bool
	stallSeq      uint64
	stallSeen     int
}

type connState uint8

const (
	stateOpen   connState = iota
	stateEnding           // all streams are done; flush, then close
	stateClosed
)

// NewServer returns the server's end of a connection. h serves each stream that
// the peer opens. Nothing is read before Serve.
func NewServer(nc net.Conn, cfg Config, h Handler) *Conn {
	c := newConn(nc, cfg)
	c.server, c.handler = true, h
	c.mu.Lock()
	c.hello()
	if cfg.MaxAge > 0 {
		c.age = time.AfterFunc(jitter(cfg.MaxAge), c.Shutdown)
	}
	c.mu.Unlock()
	return c
}

// NewClient returns the client's end of a connection. Streams may be opened at
// once; Serve must run for them to be answered.
func NewClient(nc net.Conn, cfg Config) *Conn {
	c := newConn(nc, cfg)
	c.nextID = 1
	c.mu.Lock()
	c.hello()
	if cfg.MaxAge > 0 {
		c.age = time.AfterFunc(jitter(cfg.MaxAge), c.Shutdown)
	}
	c.mu.Unlock()
	return c
}

func newConn(nc net.Conn, cfg Config) *Conn {
	cfg = cfg.withDefaults()
	c := &Conn{
		nc:           nc,
		cork:         corkOf(nc),
		cfg:          cfg,
		start:        time.Now(),
		done:         make(chan struct{}),
		draining:     make(chan struct{}),
		streams:      make(map[uint32]*Stream),
		sendWin:      initialWindow,
		updates:      updatesBase,
		peerWindow:   initialWindow,
		peerMaxFrame: minMaxFrame,
		peerStreams:  cfg.PeerStreams,
	}
	c.flushed.L = &c.mu
	c.room.L = &c.mu
	c.finished = make(chan struct{})
	// Twice the decoded size: enough to read a head that is too large to its end
	// and answer 431, little enough to bound what one head may cost.
	c.maxBlock = 2 * int(c.cfg.MaxHeaderListSize)
	c.recvAvail.Store(int64(c.cfg.ConnWindow))
	c.recvWindow.Store(int64(c.cfg.ConnWindow))
	c.rd.nc, c.rd.idle = nc, c.beforeRead
	c.fr = http2.NewFramer(nil, &c.rd)
	c.fr.SetMaxReadFrameSize(c.cfg.MaxFrameSize)
	c.dec = hpack.NewDecoder(4096, c.onField)
	return c
}

// hello buffers the preface (of a client), our SETTINGS and the raise of the
// connection's window. It goes out with the first flush.
func (c *Conn) hello() {
	if !c.server {
		c.wbuf = append(growBuf(c.wbuf, len(http2.ClientPreface)), http2.ClientPreface...)
	}
	list := make([]http2.Setting, 0, 5)
	if c.server {
		list = append(list, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.cfg.MaxConcurrentStreams})
	} else {
		list = append(list, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	}
	list = append(list,
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: c.cfg.StreamWindow},
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: c.cfg.MaxFrameSize},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: c.cfg.MaxHeaderListSize})
	c.appendSettings(list)
	if d := c.cfg.ConnWindow - initialWindow; d > 0 {
		c.appendWindowUpdate(0, d)
	}
	c.control = 0
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Done is closed when the connection has ended: its network connection is closed
// and every stream has failed or finished.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Draining is closed when the connection takes no new streams: Shutdown was
// called, MaxAge passed, the peer sent GOAWAY, or it has ended.
func (c *Conn) Draining() <-chan struct{} { return c.draining }

// Err says why the connection ended; nil before that and after a graceful end.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// OpenStreams returns the number of streams in use.
func (c *Conn) OpenStreams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// StreamLimit returns how many streams the peer lets us open: 100 until it says.
func (c *Conn) StreamLimit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(min(c.peerStreams, maxStreamID))
}

// Usable says whether new streams may be opened or come: the connection is
// neither closed nor going away.
func (c *Conn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == stateOpen && !c.goneAway && (c.server || c.nextID <= maxStreamID)
}

// Open opens a stream with the request head h. It fails with ErrClosed,
// ErrGoingAway or ErrStreamLimit without having sent anything, and never waits
// for a free stream. With End the request has no body.
func (c *Conn) Open(h *Head, f Flags) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.server:
		return nil, ErrHeadOrder
	case c.state != stateOpen:
		return nil, ErrClosed
	case c.goneAway || c.nextID > maxStreamID:
		return nil, ErrGoingAway
	case uint32(len(c.streams)) >= c.peerStreams:
		return nil, ErrStreamLimit
	case h.Protocol != "" && !c.peerConnectOK:
		return nil, ErrHeadOrder // RFC 8441 section 3: only once the peer allowed it
	}
	s := c.newStream(c.nextID)
	c.nextID += 2
	s.noBody = h.Method == "HEAD"
	s.tunnel = h.Method == "CONNECT"
	s.headSent = true
	c.appendHead(s.id, h, f&End != 0)
	s.headEnd = c.taken + int64(len(c.wbuf))
	if f&End != 0 {
		s.sendEnded = true
	}
	if f&More == 0 {
		c.flush()
	}
	return s, nil
}

// newStream adds a stream. c.mu is held.
func (c *Conn) newStream(id uint32) *Stream {
	s := &Stream{c: c, id: id, sendWin: c.peerWindow, length: -1}
	s.rcond.L = &s.mu
	s.wcond.L = &c.mu
	s.window = int64(c.cfg.StreamWindow)
	s.avail = max(s.window, initialWindow) // the peer may not know our setting yet
	c.streams[id] = s
	c.opened++
	c.updates += updatesPerStream
	return s
}

// forget removes a stream that is closed on the wire. c.mu is held.
func (c *Conn) forget(s *Stream, local bool) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	if local {
		c.localResets.add(s.id)
	} else {
		c.peerEnds.add(s.id)
	}
	c.maybeFinish()
}

// Close ends the connection at once; its streams fail with err (nil: ErrClosed).
func (c *Conn) Close(err error) {
	c.mu.Lock()
	c.closeLocked(err)
	c.mu.Unlock()
}

// closeLocked ends everything: state, streams, timers, the network connection.
func (c *Conn) closeLocked(err error) {
	if c.state == stateClosed {
		return
	}
	graceful := err == nil && c.state == stateEnding
	c.state = stateClosed
	if c.err == nil && !graceful {
		if err == nil {
			err = ErrClosed
		}
		c.err = err
	}
	if err == nil {
		err = ErrClosed
	}
	c.failStreams(err)
	c.noteDraining()
	c.room.Broadcast()
	c.flushed.Broadcast()
	for _, t := range []*time.Timer{c.keepalive, c.age, c.preface, c.goAwayTimer, c.stall} {
		if t != nil {
			t.Stop()
		}
	}
	for _, p := range c.pings {
		p.answer(ErrClosed)
	}
	c.pings = nil
	c.noteUnsent(c.wbuf, 0)
	if !c.flushing {
		putBuf(c.wbuf)
	}
	c.wbuf = nil
	// Closing may block (tls sends an alert): never under the mutex. Done closes
	// once it is over.
	go func() {
		c.nc.Close()
		close(c.done)
	}()
}

// failStreams ends every stream with err. c.mu is held.
func (c *Conn) failStreams(err error) {
	for _, s := range c.streams {
		delete(c.streams, s.id)
		s.fail(err)
	}
}

// noteDraining stops new streams. c.mu is held.
func (c *Conn) noteDraining() {
	c.goneAway = true
	if !c.drainSaid {
		c.drainSaid = true
		close(c.draining)
	}
}

// now is the time since the connection started; cheaper to store than a Time.
func (c *Conn) now() int64 { return int64(time.Since(c.start)) }

// closedIDs remembers stream ids that ended lately, to tell a late frame (which
// is ignored) from a wrong one (which is an error).
type closedIDs struct {
	ids  []uint32
	next int
	full bool
}

// closedKept covers every stream of two generations at the default limit.
const closedKept = 256

func (k *closedIDs) add(id uint32) {
	if len(k.ids) < closedKept {
		k.ids = append(k.ids, id)
		return
	}
	k.ids[k.next] = id
	k.next = (k.next + 1) % closedKept
	k.full = true
}

func (k *closedIDs) has(id uint32) bool {
	for _, v := range k.ids {
		if v == id {
			return true
		}
	}
	return false
}
