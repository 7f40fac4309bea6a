package hdfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A dialer makes every connection of a cluster, whoever needs it. What a secure
// cluster asks of a new connection (SASL) belongs here and nowhere else: above
// it a connection takes and gives plain protocol.
type dialer struct {
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	user    string
	timeout time.Duration // of a connect
}

// clientProtocol is the protocol of NameNodes for clients.
const clientProtocol = "org.apache.hadoop.hdfs.protocol.ClientProtocol"

// The preamble of a NameNode connection: "hrpc", version 9, service class 0,
// authentication NONE (simple).
const preamble = "hrpc\x09\x00\x00"

// connectionCall is the call id of the message that tells who we are.
const connectionCall = -3

// nameNode connects to a NameNode and introduces us there. Nothing is read: a
// NameNode that hangs is found by the first call.
func (d *dialer) nameNode(ctx context.Context, addr string, client []byte) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	c, err := d.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("NameNode %s: %w", addr, err)
	}
	// What has not arrived when a connection is given up must not arrive later:
	// behind a network that dropped packets the kernel would go on, and a file be
	// created that was removed meanwhile.
	if t, ok := c.(*net.TCPConn); ok {
		if err = t.SetLinger(0); err != nil {
			c.Close()
			return nil, fmt.Errorf("NameNode %s: %w", addr, err)
		}
	}
	hello := putString(putBytes(nil, 2, putString(nil, 1, d.user)), 3, clientProtocol)
	until, _ := ctx.Deadline()
	if err = c.SetWriteDeadline(until); err == nil {
		_, err = c.Write(append([]byte(preamble), frame(callHeader(client, connectionCall, -1), hello)...))
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("NameNode %s: %w", addr, err)
	}
	return c, nil
}

// dataNode connects to a DataNode, within at most limit.
func (d *dialer) dataNode(ctx context.Context, addr string, limit time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, min(limit, d.timeout))
	defer cancel()
	c, err := d.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("DataNode %s: %w", addr, err)
	}
	return c, nil
}

// callHeader is an RpcRequestHeaderProto. The client id together with the call
// id lets the NameNode's retry cache know a call that it has already done.
func callHeader(client []byte, call int32, retry int) []byte {
	b := putSint(putUint(putUint(nil, 1, 2), 2, 0), 3, int64(call)) // RPC_PROTOCOL_BUFFER, RPC_FINAL_PACKET
	return putSint(putBytes(b, 4, client), 5, int64(retry))
}

// frame is a request: its length in four bytes and the delimited parts.
func frame(parts ...[]byte) []byte {
	b := make([]byte, 4, 256)
	for _, p := range parts {
		b = append(protowire.AppendVarint(b, uint64(len(p))), p...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}
