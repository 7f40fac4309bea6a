package thrift

import (
	"bytes"
	"context"
	"errors"
	"sync"

	athrift "github.com/apache/thrift/lib/go/thrift"

	"twinscribe/thrift/gen/fb303"
)

const (
	// maxOptions and maxOptionBytes bound the map of options, which clients
	// fill and nothing reads.
	maxOptions     = 1000
	maxOptionBytes = 1 << 20 // keys and values together
)

// other answers every call but Log, through the code that Thrift generates.
// The frame is checked first, so that this code never sees a length beyond it.
func (c *conn) other(body []byte, h header) ([]byte, error) {
	s := c.server
	end, err := skip(body, h.args, typeStruct, maxDepth)
	if err != nil {
		return nil, err
	}
	if end != len(body) {
		return nil, bad(badTrailing, "at byte %d: the call ends, %d bytes are left in the frame", end, len(body)-end)
	}
	s.stats.others.Add(1)
	if _, known := s.processor.ProcessorMap()[string(h.name)]; !known {
		s.stats.unknowns.Add(1)
		return exception(h.name, h.seq, excUnknownMethod, "Invalid method name: '"+string(h.name)+"'"), nil
	}
	in := &athrift.TMemoryBuffer{Buffer: bytes.NewBuffer(body)}
	out := &athrift.TMemoryBuffer{Buffer: bytes.NewBuffer(make([]byte, 4, 256))}
	old := false
	form := &athrift.TConfiguration{
		TBinaryStrictRead:  &old,
		TBinaryStrictWrite: &old,
		MaxMessageSize:     int32(s.o.MaxFrame),
	}
	// What goes wrong is in the reply, as an exception; a method that is never
	// answered has none.
	_, failure := s.processor.Process(c.group.ctx,
		athrift.NewTBinaryProtocolConf(in, form), athrift.NewTBinaryProtocolConf(out, form))
	reply := out.Bytes()
	if len(reply) > 4 {
		return closeFrame(reply, 0), nil
	}
	if failure != nil {
		return nil, bad(badType, "%v", failure)
	}
	return nil, nil
}

// options are the strings that clients set and read back.
type options struct {
	mu    sync.Mutex
	m     map[string]string
	bytes int
}

var errOptionsFull = errors.New("no room for another option")

func (o *options) set(key, value string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, there := o.m[key]
	grown := len(value) - len(was)
	if !there {
		grown += len(key)
	}
	if grown > 0 && o.bytes+grown > maxOptionBytes || !there && len(o.m) >= maxOptions {
		return errOptionsFull
	}
	if o.m == nil {
		o.m = make(map[string]string)
	}
	o.m[key] = value
	o.bytes += grown
	return nil
}

// get reads an option. One that is not there comes into being, empty, while
// there is room: Scribe does so.
func (o *options) get(key string) string {
	o.mu.Lock()
	v, there := o.m[key]
	o.mu.Unlock()
	if !there {
		_ = o.set(key, "") // without room the answer is the same
	}
	return v
}

func (o *options) all() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := make(map[string]string, len(o.m))
	for k, v := range o.m {
		m[k] = v
	}
	return m
}

// answers is the handler as the generated code wants it.
type answers struct {
	h       Handler
	options *options
}

var _ fb303.FacebookService = (*answers)(nil)

func (a *answers) GetName(context.Context) (string, error)    { return a.h.Name(), nil }
func (a *answers) GetVersion(context.Context) (string, error) { return a.h.Version(), nil }

func (a *answers) GetStatus(context.Context) (fb303.FbStatus, error) {
	s, _ := a.h.Status()
	return fb303.FbStatus(s), nil
}

func (a *answers) GetStatusDetails(context.Context) (string, error) {
	_, details := a.h.Status()
	return details, nil
}

func (a *answers) GetCounters(context.Context) (map[string]int64, error) {
	return a.h.Counters(), nil
}

func (a *answers) GetCounter(_ context.Context, key string) (int64, error) {
	return a.h.Counters()[key], nil
}

func (a *answers) SetOption(_ context.Context, key, value string) error {
	return a.options.set(key, value)
}

func (a *answers) GetOption(_ context.Context, key string) (string, error) {
	return a.options.get(key), nil
}

func (a *answers) GetOptions(context.Context) (map[string]string, error) {
	return a.options.all(), nil
}

func (a *answers) AliveSince(context.Context) (int64, error) { return a.h.AliveSince(), nil }

//nolint:staticcheck // the generated interface spells it so
func (a *answers) GetCpuProfile(context.Context, int32) (string, error) { return "", nil }

func (a *answers) Reinitialize(context.Context) error {
	a.h.Reinitialize()
	return nil
}

func (a *answers) Shutdown(context.Context) error {
	a.h.Shutdown()
	return nil
}
