package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/grpcweb"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

const (
	// Room that a pooled exchange keeps, so that an ordinary request allocates
	// nothing: fields of a browser's request with what proxies add, and text that
	// is written for one request (request id, rewritten path, messages).
	fieldRoom   = 48
	scratchRoom = 1 << 10
	// Beyond these a pooled exchange gives its room back.
	maxFieldRoom   = 256
	maxScratchRoom = 16 << 10
)

// exchange is one request and its response. It is taken from a pool when a head
// was read and goes back behind its record.
//
// It is owned by the goroutine that read the head, but for the fields said
// otherwise.
type exchange struct {
	// fixed while the exchange runs
	p   *Proxy
	t   *tunnel
	srv codec.Server
	in  *codec.RequestHead
	now time.Time

	asked uint64 // owner only: Proxy.changes before the policies were asked

	req   attrs.Request
	known known
	grpc  bool

	web        bool              // a gRPC-Web client: grpc is set too, srv is translator
	translator *grpcweb.Server   // made at the first such request
	webHead    codec.RequestHead // what in points to then

	// decided by the pipeline
	chain   *config.Chain // nil behind the decision
	result  routing.Result
	backend *routing.CompiledBackend
	target  *config.Target
	retry   *resilience.Retry
	cors    routing.CORSKind
	origins *routing.CORSPolicy // whose cors is; nil before it was asked, and where there is none
	extra   []attrs.Field       // response fields that the waypoint adds
	edits   []Edit              // of the response, that stages asked for
	held    []Releaser          // what stages lent
	guarded []string            // names of headers that stages removed, borrowed from held
	hash    uint64
	sticky  sticky
	shed    *resilience.Shed  // why the last attempt overflowed, if it was for the whole process
	picked  []*routing.Mirror // those that the rule asks for
	mirrors []*mirror         // copies that want the body

	// the request as it goes upstream
	up       codec.RequestHead
	fields   []attrs.Field // of req
	upFields []attrs.Field // of up when a rule edits them
	reply    codec.ResponseHead
	out      []attrs.Field // of reply
	noted    []attrs.Field // of reply, kept for the record
	scratch  []byte        // text written for this request

	clock

	// timeouts of the rule
	timeout    time.Duration // whole exchange, since the request was received; 0: none
	tryTimeout time.Duration
	idle       time.Duration

	// the attempt under way
	tried      []*balance.Endpoint
	host       *hostInfo
	heard      time.Time          // when the response head came
	retrying   *resilience.Limits // among whose retries it has a place; nil: none
	started    bool               // the response head went out, or a 1xx
	sent       atomic.Bool        // the whole request went upstream
	answered   atomic.Bool        // the last of the response goes out
	src        source
	gathered   gathered
	pump       pump  // of the first attempt that needs one
	pumping    *pump // of the attempt under way
	pumped     bool
	once       bool // the body is kept only until a piece of it was sent
	pumps      sync.WaitGroup
	generation int // of src that the attempt reads

	placed               bool // it has a place among the requests under way
	released             bool // the attempt's connection was given back
	keepServer           bool
	quiet                bool   // none of the x-envoy-* headers is written
	server               string // of answers; empty: serverName
	rawReceived, rawSent int64  // bytes behind a 101

	reqCount, respCount messageCount

	rec telemetry.Record

	// dry is set by Explain: nothing outside of the exchange may be touched.
	dry      bool
	notAsked []string // by name: stages that were left out for it

	// gone and cancel let the connection's reader end an exchange whose client
	// left, and a policy change cut it.
	gone    atomic.Bool
	cut     atomic.Bool
	denial  atomic.Pointer[authz.Decision] // by which a policy change cut it; set before cut
	cancel  sync.Mutex                     // guards current
	current codec.Client                   // the attempt's, nil between attempts

	interrupt context.CancelFunc // guarded by cancel: of interruptible
	raw       *splice            // guarded by cancel: the byte stream behind a 101
	onGone    func()             // made once per pooled exchange
	leaving   leaving
	cutting   cutting
	told      sync.WaitGroup // tasks of leaving and cutting under way

	// guarded by t.mu: the list of a tunnel's exchanges
	next, prev *exchange
	streaming  bool // past its response head with no end in sight
}

// view borrows b as a string.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func newExchange() *exchange {
	x := &exchange{
		fields:  make([]attrs.Field, 0, fieldRoom),
		out:     make([]attrs.Field, 0, fieldRoom),
		scratch: make([]byte, 0, scratchRoom),
	}
	x.rec.Reset()
	x.leaving.x, x.cutting.x = x, x
	x.onGone = func() {
		x.told.Add(1)
		x.p.workers.do(&x.leaving)
	}
	return x
}

// leaving tells an exchange that its client left. It is a task of its own since
// it is the reader of the client's connection that learns it, which must neither
// wait nor touch another connection.
type leaving struct{ x *exchange }

func (l *leaving) run() {
	defer l.x.told.Done()
	l.x.clientLeft()
}

// cutting ends an exchange that new policies deny.
type cutting struct{ x *exchange }

func (c *cutting) run() {
	defer c.x.told.Done()
	c.x.cutOff()
}

var exchanges = sync.Pool{New: func() any { return newExchange() }}

// begin prepares x for the request that srv has read.
func (x *exchange) begin(t *tunnel, srv codec.Server) {
	x.p, x.t, x.srv, x.in = t.p, t, srv, srv.Head()
	x.now = time.Now()
	x.rec.Start = x.now
	x.rec.Shard = t.shard
	x.rec.Source, x.rec.MutualTLS = t.peer, t.mutual
	x.rec.Downstream, x.rec.DownstreamLocal = t.conn.Source, t.local
	x.rec.SNI = t.conn.SNI
	x.p.opts.Telemetry.Begin()
	t.enter(x)
	if w, ok := srv.(codec.Watcher); ok {
		w.OnGone(x.onGone)
	}
}

// end reports the exchange and makes it ready for another one. Nothing may use
// its strings any more.
func (x *exchange) end() {
	if w, ok := x.srv.(codec.Watcher); ok {
		w.OnGone(nil)
	}
	x.report()
	x.t.leave(x)
	x.told.Wait() // nobody can find x any more, but somebody may have before
	for _, m := range x.mirrors {
		m.stop() // unless it has all of the body
	}
	x.src.drop()
	x.gathered.release(x.p.overload)
	for _, h := range x.held {
		h.Release()
	}
	x.reset()
}

// report completes the record and hands it on.
func (x *exchange) report() {
	r := &x.rec
	r.Duration = time.Since(r.Start)
	r.Received, r.Sent = x.srv.Received()+x.rawReceived, x.srv.Sent()+x.rawSent
	if x.grpc {
		r.Protocol = telemetry.GRPC
		r.RequestMessages, r.ResponseMessages = x.reqCount.n, x.respCount.n
	}
	r.RequestHeaders = x.fields
	x.p.opts.Telemetry.Done(r)
}

func (x *exchange) reset() {
	x.unwrapWeb()
	x.p, x.t, x.srv, x.in = nil, nil, nil, nil
	x.req = attrs.Request{}
	x.known = known{}
	x.grpc, x.dry, x.notAsked = false, false, nil
	x.chain, x.result, x.backend, x.target, x.retry = nil, routing.Result{}, nil, nil, nil
	x.cors, x.origins, x.extra, x.hash, x.shed = 0, nil, nil, 0, nil
	x.sticky = sticky{}
	clear(x.edits)
	x.edits = x.edits[:0]
	clear(x.held)
	x.held = x.held[:0]
	clear(x.guarded)
	x.guarded = x.guarded[:0]
	clear(x.mirrors)
	x.mirrors = x.mirrors[:0]
	x.up, x.reply = codec.RequestHead{}, codec.ResponseHead{}
	x.fields = emptied(x.fields)
	x.upFields = emptied(x.upFields)
	x.out = emptied(x.out)
	x.noted = emptied(x.noted)
	if cap(x.scratch) > maxScratchRoom {
		x.scratch = make([]byte, 0, scratchRoom)
	}
	x.scratch = x.scratch[:0]
	x.timeout, x.tryTimeout, x.idle = 0, 0, 0
	x.clock.reset()
	clear(x.tried)
	x.tried = x.tried[:0]
	x.host, x.retrying, x.started, x.streaming = nil, nil, false, false
	x.pumping, x.pumped, x.once, x.generation = nil, false, false, 0
	x.keepServer, x.quiet, x.server = false, false, ""
	x.rawReceived, x.rawSent, x.released = 0, 0, false
	x.pump.x, x.pump.cl = nil, nil
	x.sent.Store(false)
	x.answered.Store(false)
	x.reqCount, x.respCount = messageCount{}, messageCount{}
	x.rec.Reset()
	x.gone.Store(false)
	x.cut.Store(false)
	x.denial.Store(nil)
}

// emptied returns fs without elements, of a room worth keeping. It clears what was
// used: the elements and, behind them, those of a longer list before. To clear all
// of the room would cost more memory traffic than the rest of a small request.
func emptied(fs []attrs.Field) []attrs.Field {
	if cap(fs) > maxFieldRoom {
		return make([]attrs.Field, 0, fieldRoom)
	}
	used := len(fs)
	fs = fs[:cap(fs)]
	for used < len(fs) && fs[used].Name != "" {
		used++
	}
	clear(fs[:used])
	return fs[:0]
}

// attach makes cl the client that clientLeft and cutOff abort. It reports false
// when one of them already came.
func (x *exchange) attach(cl codec.Client) bool {
	x.cancel.Lock()
	defer x.cancel.Unlock()
	x.current = cl
	return !x.gone.Load() && !x.cut.Load()
}

// detach ends attach. cl is not aborted by others from here on.
func (x *exchange) detach() {
	x.cancel.Lock()
	x.current = nil
	x.cancel.Unlock()
}

// clientLeft ends what waits for the backend on the client's behalf.
func (x *exchange) clientLeft() {
	x.gone.Store(true)
	x.abortCurrent(endedClient)
}

// cutOff ends the exchange because a new policy denies it.
func (x *exchange) cutOff() {
	x.cut.Store(true)
	x.abortCurrent(endedCut)
}

// abortCurrent ends the attempt under way, or the bytes of an upgrade, which note why.
func (x *exchange) abortCurrent(why uint32) {
	x.cancel.Lock()
	if x.interrupt != nil {
		x.interrupt()
	}
	if x.current != nil {
		x.current.Abort(codec.AbortCancel)
	}
	if x.raw != nil {
		x.raw.end(why)
	}
	x.cancel.Unlock()
}

// clientGone notes that writing to or reading from the client failed.
func (x *exchange) clientGone(err error) {
	x.gone.Store(true)
	f := x.p.clientEnd()
	x.rec.Flags |= f.flag()
	x.rec.Details = f.details(true)
	if codec.KindOf(err) == codec.Protocol {
		x.rec.Flags = x.rec.Flags&^f.flag() | telemetry.FlagDPE
		x.rec.Details = "downstream_protocol_error"
	}
	if err != nil {
		x.rec.Termination = "" // the error's text may hold the peer's bytes; the flag says enough
	}
}

// context returns the context of slow side work: dials and calls of stages. It
// carries no deadline; those are the caller's.
func (x *exchange) context() context.Context { return x.p.ctx }
