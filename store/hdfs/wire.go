package hdfs

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
)

// Hadoop's messages are protobuf (ClientNamenodeProtocol.proto, hdfs.proto,
// datatransfer.proto, RpcHeader.proto). Field numbers stand where a message is
// built or read; nothing is generated.

func putBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func putString(b []byte, n protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func putUint(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func putSint(b []byte, n protowire.Number, v int64) []byte {
	return putUint(b, n, protowire.EncodeZigZag(v))
}

func putBool(b []byte, n protowire.Number, v bool) []byte {
	return putUint(b, n, protowire.EncodeBool(v))
}

// delimited is m behind its length, as protobuf's writeDelimitedTo has it.
func delimited(m []byte) []byte {
	return append(protowire.AppendVarint(make([]byte, 0, len(m)+5), uint64(len(m))), m...)
}

// each calls f for every field of m: u is the value of varints and fixed 64
// bits, s that of bytes, strings and messages (never nil). s lies in m. Fields
// of other types are skipped.
func each(m []byte, f func(n protowire.Number, u uint64, s []byte) error) error {
	for len(m) > 0 {
		n, t, l := protowire.ConsumeTag(m)
		if l < 0 {
			return protowire.ParseError(l)
		}
		m = m[l:]
		var u uint64
		var s []byte
		switch t {
		case protowire.VarintType:
			u, l = protowire.ConsumeVarint(m)
		case protowire.BytesType:
			s, l = protowire.ConsumeBytes(m)
		case protowire.Fixed64Type:
			u, l = protowire.ConsumeFixed64(m)
		default:
			if l = protowire.ConsumeFieldValue(n, t, m); l >= 0 {
				m = m[l:]
				continue
			}
		}
		if l < 0 {
			return protowire.ParseError(l)
		}
		m = m[l:]
		if err := f(n, u, s); err != nil {
			return err
		}
	}
	return nil
}

// fields holds the last value of each of a message's first fields.
type fields struct {
	u [32]uint64
	s [32][]byte
}

func decode(m []byte) (*fields, error) {
	r := &fields{}
	err := each(m, func(n protowire.Number, u uint64, s []byte) error {
		if int(n) < len(r.u) {
			r.u[n], r.s[n] = u, s
		}
		return nil
	})
	return r, err
}

// block is an ExtendedBlockProto: a block of a pool with its generation stamp,
// which grows at each recovery and tells replicas left behind from current
// ones. size is the number of bytes that are meant, where that matters.
type block struct {
	pool    string
	id, gen uint64
	size    int64
}

func (b block) encode() []byte {
	m := putUint(putUint(putString(nil, 1, b.pool), 2, b.id), 3, b.gen)
	if b.size > 0 {
		m = putUint(m, 4, uint64(b.size))
	}
	return m
}

func decodeBlock(m []byte) (b block, err error) {
	f, err := decode(m)
	if err != nil {
		return b, fmt.Errorf("block: %w", err)
	}
	return block{pool: string(f.s[1]), id: f.u[2], gen: f.u[3], size: int64(f.u[4])}, nil
}

// node is one DataNode of a pipeline and the disk (storage) it was given there.
type node struct {
	info    []byte // its DatanodeInfoProto as it came, to be passed on
	id      []byte // the DatanodeIDProto in it
	addr    string // where it takes data, host:port
	storage string
	kind    uint64        // StorageTypeProto
	heard   *atomic.Int64 // when it last answered anything, nanoseconds since 1970; shared by all who know the node
}

// is says whether both are the same DataNode.
func (n node) is(o node) bool { return n.addr == o.addr }

func decodeNode(m []byte) (node, error) {
	info, err := decode(m)
	if err != nil {
		return node{}, fmt.Errorf("DataNode: %w", err)
	}
	id, err := decode(info.s[1])
	if err != nil {
		return node{}, fmt.Errorf("DataNode: %w", err)
	}
	if len(id.s[1]) == 0 || id.u[4] == 0 || id.u[4] > 65535 {
		return node{}, errors.New("DataNode without an address")
	}
	return node{
		info: m,
		id:   info.s[1],
		addr: net.JoinHostPort(string(id.s[1]), strconv.FormatUint(id.u[4], 10)),
		kind: diskStorage,
	}, nil
}

const diskStorage = 1 // StorageTypeProto.DISK, its default

// located is a LocatedBlockProto: a block, the DataNodes for it, and the token
// that lets them accept us (empty on clusters without security).
type located struct {
	block
	nodes []node
	token []byte
}

func decodeLocated(m []byte) (l located, err error) {
	var storages []string
	var kinds []uint64
	err = each(m, func(n protowire.Number, u uint64, s []byte) error {
		var err error
		switch n {
		case 1:
			l.block, err = decodeBlock(s)
		case 3:
			var d node
			d, err = decodeNode(s)
			l.nodes = append(l.nodes, d)
		case 5:
			l.token = s
		case 7: // repeated enum, packed or not
			if s == nil {
				kinds = append(kinds, u)
				break
			}
			for len(s) > 0 {
				v, k := protowire.ConsumeVarint(s)
				if k < 0 {
					return protowire.ParseError(k)
				}
				kinds, s = append(kinds, v), s[k:]
			}
		case 8:
			storages = append(storages, string(s))
		}
		return err
	})
	for i := range l.nodes {
		if i < len(storages) {
			l.nodes[i].storage = storages[i]
		}
		if i < len(kinds) {
			l.nodes[i].kind = kinds[i]
		}
	}
	if err != nil {
		return located{}, fmt.Errorf("located block: %w", err)
	}
	return l, nil
}
