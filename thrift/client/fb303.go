package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	athrift "github.com/apache/thrift/lib/go/thrift"

	"twinscribe/thrift"
	"twinscribe/thrift/gen/fb303"
)

// The calls of fb303 go to the address in use and are not repeated.

// Status is the server's status and the reason for it.
func (c *Client) Status(ctx context.Context) (thrift.Status, string, error) {
	s, err := c.fb303().GetStatus(ctx)
	if err != nil {
		return 0, "", named("getStatus", err)
	}
	details, err := c.fb303().GetStatusDetails(ctx)
	return thrift.Status(s), details, named("getStatusDetails", err)
}

// Name is the server's name: "Scribe".
func (c *Client) Name(ctx context.Context) (string, error) {
	v, err := c.fb303().GetName(ctx)
	return v, named("getName", err)
}

// Version is the server's version.
func (c *Client) Version(ctx context.Context) (string, error) {
	v, err := c.fb303().GetVersion(ctx)
	return v, named("getVersion", err)
}

// Counters are the server's counters.
func (c *Client) Counters(ctx context.Context) (map[string]int64, error) {
	v, err := c.fb303().GetCounters(ctx)
	return v, named("getCounters", err)
}

// AliveSince is when the server was started, in seconds since 1970 UTC.
func (c *Client) AliveSince(ctx context.Context) (int64, error) {
	v, err := c.fb303().AliveSince(ctx)
	return v, named("aliveSince", err)
}

// Reinitialize has the server read its configuration again. There is no answer:
// nil means that it was sent.
func (c *Client) Reinitialize(ctx context.Context) error {
	return named("reinitialize", c.fb303().Reinitialize(ctx))
}

// Shutdown has the server store what is queued and end. There is no answer: nil
// means that it was sent.
func (c *Client) Shutdown(ctx context.Context) error {
	return named("shutdown", c.fb303().Shutdown(ctx))
}

func named(method string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

func (c *Client) fb303() *fb303.FacebookServiceClient {
	return fb303.NewFacebookServiceClient((*wire)(c))
}

// wire is the client as generated code wants it.
type wire Client

// Call implements athrift.TClient.
func (w *wire) Call(ctx context.Context, method string, args, result athrift.TStruct) (athrift.ResponseMeta, error) {
	c := (*Client)(w)
	var none athrift.ResponseMeta
	if err := c.lock(ctx); err != nil {
		return none, err
	}
	defer c.end()
	c.seq++
	old := false
	form := &athrift.TConfiguration{TBinaryStrictRead: &old, TBinaryStrictWrite: &old}
	out := &athrift.TMemoryBuffer{Buffer: bytes.NewBuffer(make([]byte, 4, 256))}
	codec := athrift.NewTStandardClient(nil, nil)
	if err := codec.Send(ctx, athrift.NewTBinaryProtocolConf(out, form), c.seq, method, args); err != nil {
		return none, err
	}
	frame := out.Bytes()
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	reply, err := c.exchange(ctx, frame, result != nil)
	if err != nil || result == nil {
		return none, err
	}
	in := &athrift.TMemoryBuffer{Buffer: bytes.NewBuffer(reply)}
	if err := codec.Recv(ctx, athrift.NewTBinaryProtocolConf(in, form), c.seq, method, result); err != nil {
		c.drop()
		return none, err
	}
	return none, nil
}
