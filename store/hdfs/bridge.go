package hdfs

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A bridge is what the library takes for its connection to the NameNode. Each
// call is handed over to our own connection, which has deadlines, a second try
// and the other NameNode of a pair; the library has none of that, and waits
// 5 s after a failure. So a library client costs no connection, and each
// operation and each open file has one of its own.
//
// The library writes one request and then reads its answer, with one call at a
// time; its renewal of leases, of which it has none, is answered here.
type bridge struct {
	mu   sync.Mutex
	do   func(method string, req []byte) ([]byte, error) // makes a call for the operation under way
	in   []byte                                          // written and not yet understood
	out  []byte                                          // answers not yet read
	err  error                                           // of the last call that failed
	said bool                                            // the preamble has passed
}

// use makes the calls from now on end with ctx.
func (b *bridge) use(ctx context.Context, nn *nameNode) {
	b.mu.Lock()
	b.do = func(method string, req []byte) ([]byte, error) { return nn.call(ctx, brisk, method, req) }
	b.err = nil
	b.mu.Unlock()
}

// cause is the error behind an error of the library: ours, if a call of ours
// failed; else what it says without the path, which its callers add.
func (b *bridge) cause(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && b.err != nil {
		return b.err
	}
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Write takes what the library sends: the preamble, then frames.
func (b *bridge) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.in = append(b.in, p...)
	if !b.said && len(b.in) >= len(preamble) {
		b.in, b.said = b.in[len(preamble):], true
	}
	return len(p), nil
}

// Read makes the call that was written and gives its answer.
func (b *bridge) Read(p []byte) (int, error) {
	b.mu.Lock()
	for len(b.out) == 0 {
		q, rest, err := parseRequest(b.in)
		if err != nil {
			b.mu.Unlock()
			return 0, err
		}
		b.in = rest
		if q.call < 0 { // who we are; not answered
			continue
		}
		do := b.do
		b.mu.Unlock()
		var body []byte
		if q.method != "renewLease" {
			body, err = do(q.method, q.body)
		}
		b.mu.Lock()
		if err != nil {
			b.err = err
		}
		b.out = encodeReply(q.call, body, err)
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	b.mu.Unlock()
	return n, nil
}

// A libraryRequest is one call of the library's.
type libraryRequest struct {
	call   int32
	method string
	body   []byte
}

var errRequest = errors.New("not a request of the library")

func parseRequest(b []byte) (q libraryRequest, rest []byte, err error) {
	if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
		return q, b, errRequest
	}
	n := 4 + int(binary.BigEndian.Uint32(b))
	rest, b = b[n:], b[4:n]
	var parts [3][]byte
	for i := 0; i < len(parts) && len(b) > 0; i++ {
		p, k := protowire.ConsumeBytes(b)
		if k < 0 {
			return q, rest, errRequest
		}
		parts[i], b = p, b[k:]
	}
	h, err := decode(parts[0])
	if err != nil {
		return q, rest, err
	}
	m, err := decode(parts[1])
	if err != nil {
		return q, rest, err
	}
	return libraryRequest{int32(protowire.DecodeZigZag(h.u[3])), string(m.s[1]), parts[2]}, rest, nil
}

// encodeReply is an answer as the library reads it. An error that is not the
// NameNode's, and one on which the library would try by itself, has a class
// that it does not know.
func encodeReply(call int32, body []byte, err error) []byte {
	h := putUint(nil, 1, uint64(uint32(call)))
	if err == nil {
		return frame(putUint(h, 2, 0), body)
	}
	class, message := "java.io.IOException", err.Error()
	var r *RemoteError
	if errors.As(err, &r) && r.name() != "StandbyException" {
		class, message = r.Class, r.Message
	}
	return frame(putString(putString(putUint(h, 2, 1), 4, class), 5, message))
}

// Close implements net.Conn, as the methods below do.
func (b *bridge) Close() error                     { return nil }
func (b *bridge) LocalAddr() net.Addr              { return bridgeAddr{} }
func (b *bridge) RemoteAddr() net.Addr             { return bridgeAddr{} }
func (b *bridge) SetDeadline(time.Time) error      { return nil }
func (b *bridge) SetReadDeadline(time.Time) error  { return nil }
func (b *bridge) SetWriteDeadline(time.Time) error { return nil }

type bridgeAddr struct{}

func (bridgeAddr) Network() string { return "bridge" }
func (bridgeAddr) String() string  { return "NameNode" }
