package hbone

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"reflect"
	"sync"
	"syscall"
	"unsafe"

	"waypoint.dev/waypoint/hbone/h2"
)

// records is a tls.Conn that reads whole records ahead of crypto/tls.
//
// crypto/tls allocates a reader for each record that it has to fetch, keeps its
// input buffer for the life of the connection, and asks the kernel for little at
// a time. It does none of that when its input buffer (the field rawInput) holds
// the next record already. So records fills that buffer itself: from a pool,
// while there is something in it; with all that the socket has, in one call.
//
// The risk: rawInput is not exported. It is reached by its offset, which is
// looked up by name and type when the process starts, and only on a toolchain on
// which the tests of this file passed (recordsToolchain). Where either does not
// hold, withRecords returns the tls.Conn as it is, which reads the same, slower. No other field is written, and none without the lock that
// makes Read the only reader.
type records struct {
	*tls.Conn
	below *recordSource
	raw   *bytes.Buffer // Conn.rawInput
	plain *bytes.Reader // Conn.input, which lies in rawInput's memory

	mu   sync.Mutex // held by Read, as crypto/tls holds its own
	buf  *recordBuf // what raw lies in, unless crypto/tls moved it; nil when idle
	more bool       // the last read filled what it got: take a large buffer
	over bool       // reading has failed for good, and crypto/tls knows how
}

// recordSource is what the tls.Conn of a records runs on: the corked socket, from
// which crypto/tls still reads when it wants what records did not foresee.
type recordSource struct {
	*h2.Cork
	sc   syscall.RawConn // nil: no socket, as in tests
	take func(fd uintptr) bool
	err  error // of a read ahead, for the next Read; guarded by records.mu

	// Of the read ahead under way; guarded by records.mu.
	pool *sync.Pool // got comes from here when the socket has something
	got  *recordBuf
	n    int
	rerr error
}

// A recordBuf holds records as they came.
type recordBuf struct {
	pool *sync.Pool
	b    []byte
}

const (
	recordHeader = 5               // RFC 8446 section 5.1
	maxRecord    = 16<<10 + 256    // RFC 8446 section 5.2: the payload of one record
	smallRecords = 8 << 10         // a few small requests or answers
	largeRecords = 4 * (maxRecord) // a few full records to one system call
)

var smallRecordBufs, largeRecordBufs sync.Pool

func init() {
	smallRecordBufs.New = func() any { return &recordBuf{&smallRecordBufs, make([]byte, smallRecords)} }
	largeRecordBufs.New = func() any { return &recordBuf{&largeRecordBufs, make([]byte, largeRecords)} }
}

// Where the fields of tls.Conn lie; ok where they are what is expected.
var rawInputAt, inputAt, recordsOK = func() (raw, input uintptr, ok bool) {
	t := reflect.TypeFor[tls.Conn]()
	r, rok := t.FieldByName("rawInput")
	i, iok := t.FieldByName("input")
	ok = recordsToolchain && rok && iok &&
		r.Type == reflect.TypeFor[bytes.Buffer]() && i.Type == reflect.TypeFor[bytes.Reader]()
	return r.Offset, i.Offset, ok
}()

// source puts a Cork and the place for what is read ahead below a tls.Conn.
func source(nc net.Conn) *recordSource {
	s := &recordSource{Cork: h2.NewCork(nc)}
	if c, ok := nc.(syscall.Conn); ok {
		if sc, err := c.SyscallConn(); err == nil {
			s.sc = sc
			s.take = s.takeFrom
		}
	}
	return s
}

// Read is what crypto/tls calls: the error that a read ahead met comes first,
// since a socket may tell an error only once.
func (s *recordSource) Read(p []byte) (int, error) {
	if err := s.err; err != nil {
		s.err = nil
		return 0, err
	}
	return s.Cork.Read(p)
}

// withRecords returns tc, whose handshake is over and which runs on s, as it is
// best read.
func withRecords(tc *tls.Conn, s *recordSource) net.Conn {
	if !recordsOK {
		return tc
	}
	at := unsafe.Pointer(tc)
	return &records{
		Conn: tc, below: s,
		raw:   (*bytes.Buffer)(unsafe.Add(at, rawInputAt)),
		plain: (*bytes.Reader)(unsafe.Add(at, inputAt)),
	}
}

// Read implements net.Conn. An error goes the way of crypto/tls, which knows
// what it means to the connection.
func (r *records) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over && r.plain.Len() == 0 && len(p) > 0 {
		r.below.err = r.ahead()
	}
	n, err := r.Conn.Read(p)
	if err != nil {
		te, ok := err.(net.Error)
		r.over = !ok || !te.Timeout()
	}
	return n, err
}

// ahead sees to it that rawInput holds a whole record.
func (r *records) ahead() error {
	for {
		have := r.raw.Bytes()
		need := recordHeader
		if len(have) >= recordHeader {
			n := int(binary.BigEndian.Uint16(have[3:]))
			if n > maxRecord {
				return nil // crypto/tls knows what to say
			}
			need += n
			if len(have) >= need {
				return nil
			}
		}
		if err := r.fill(need); err != nil {
			return err
		}
	}
}

// fill reads once, so that need bytes fit.
func (r *records) fill(need int) error {
	have := r.raw.Bytes()
	if len(have) == 0 {
		return r.fillEmpty()
	}
	if r.raw.Available() < need-len(have) || r.more && r.buf != nil && r.buf.pool == &smallRecordBufs {
		// Only now is it known how much is coming. What is here is less than a
		// record and moves to the front.
		nb := r.getBuf(need > smallRecords || r.more)
		n := copy(nb.b, have)
		r.drop()
		r.use(nb, n)
	}
	room := r.raw.AvailableBuffer()
	room = room[:cap(room)]
	n, err := r.below.read(room)
	if n > 0 {
		r.more = n == len(room)
		_, _ = r.raw.Write(room[:n]) // it is there already: this only counts it
		return nil
	}
	return err
}

// fillEmpty reads into a buffer that is taken once there is something to read:
// a connection that waits holds none.
func (r *records) fillEmpty() error {
	r.drop()
	pool := &smallRecordBufs
	if r.more {
		pool = &largeRecordBufs
	}
	b, n, err := r.below.readPooled(pool)
	if err != nil {
		return err
	}
	r.more = n == len(b.b) || r.more && n > smallRecords
	r.use(b, n)
	return nil
}

func (r *records) getBuf(large bool) *recordBuf {
	if large {
		return largeRecordBufs.Get().(*recordBuf)
	}
	return smallRecordBufs.Get().(*recordBuf)
}

// use makes the first n bytes of b rawInput.
func (r *records) use(b *recordBuf, n int) {
	r.buf = b
	*r.raw = *bytes.NewBuffer(b.b[:n])
}

// drop takes its memory from rawInput. Nothing of it is needed any more: input,
// which lies in it, has been read.
func (r *records) drop() {
	*r.raw = bytes.Buffer{}
	if r.buf != nil {
		r.buf.pool.Put(r.buf)
		r.buf = nil
	}
}

// read reads into p as net.Conn does.
func (s *recordSource) read(p []byte) (int, error) {
	n, err := s.Cork.Read(p)
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	return n, err
}

// readPooled reads into a buffer of pool.
func (s *recordSource) readPooled(pool *sync.Pool) (*recordBuf, int, error) {
	if s.sc == nil {
		b := pool.Get().(*recordBuf)
		n, err := s.read(b.b)
		if n == 0 {
			pool.Put(b)
			return nil, 0, err
		}
		return b, n, nil
	}
	s.pool = pool
	err := s.sc.Read(s.take)
	b, n := s.got, s.n
	s.got, s.n = nil, 0
	if err == nil {
		err = s.rerr
	}
	s.rerr = nil
	if b == nil {
		return nil, 0, err
	}
	return b, n, nil
}

// takeFrom reads the socket once; false is for a socket with nothing to read.
func (s *recordSource) takeFrom(fd uintptr) bool {
	b := s.pool.Get().(*recordBuf)
	for {
		n, err := syscall.Read(int(fd), b.b)
		switch {
		case n > 0:
			s.got, s.n = b, n
			return true
		case errors.Is(err, syscall.EINTR):
			continue
		}
		s.pool.Put(b)
		if err == syscall.EAGAIN {
			return false
		}
		if s.rerr = err; err == nil {
			s.rerr = io.EOF
		} else {
			s.rerr = &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
		}
		return true
	}
}
