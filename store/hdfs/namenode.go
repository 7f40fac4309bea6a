package hdfs

import (
	"context"
	"fmt"
)

// A nameNode makes the calls of ClientProtocol that the write path needs.
// name is the lease holder of every file that is written.
type nameNode struct {
	*rpc
	name string
}

// Flags of create (CreateFlagProto).
const (
	flagCreate    = 0x01
	flagReplicate = 0x80 // a replicated file, also where the folder's policy is erasure coding
)

const filePermission = 0o644

// create makes an open file and returns its id. It never replaces one. Folders
// are made, with the permissions of the folder above.
func (n *nameNode) create(ctx context.Context, path string, replication int, blockSize int64) (id uint64, err error) {
	q := putBytes(putString(nil, 1, path), 2, putUint(nil, 1, filePermission))
	q = putBool(putUint(putString(q, 3, n.name), 4, flagCreate|flagReplicate), 5, true)
	q = putUint(putUint(q, 6, uint64(replication)), 7, uint64(blockSize))
	s, err := n.sub(ctx, brisk, "create", q)
	if err != nil {
		return 0, err
	}
	f, err := decode(s)
	if err != nil {
		return 0, fmt.Errorf("create: %w", err)
	}
	return f.u[13], nil // HdfsFileStatusProto.fileId
}

// sub makes a call whose answer is one message in field 1.
func (n *nameNode) sub(ctx context.Context, m manner, method string, q []byte) ([]byte, error) {
	b, err := n.call(ctx, m, method, q)
	if err != nil {
		return nil, err
	}
	f, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return f.s[1], nil
}

// yes makes a call whose answer is a bool in field 1.
func (n *nameNode) yes(ctx context.Context, m manner, method string, q []byte) (bool, error) {
	b, err := n.call(ctx, m, method, q)
	if err != nil {
		return false, err
	}
	f, err := decode(b)
	if err != nil {
		return false, fmt.Errorf("%s: %w", method, err)
	}
	return f.u[1] == 1, nil
}

func (n *nameNode) locate(ctx context.Context, m manner, method string, q []byte) (located, error) {
	s, err := n.sub(ctx, m, method, q)
	if err != nil {
		return located{}, err
	}
	l, err := decodeLocated(s)
	if err == nil && len(l.nodes) == 0 && method != "updateBlockForPipeline" {
		err = unavailable(fmt.Errorf("a block on no DataNode"))
	}
	if err != nil {
		return located{}, fmt.Errorf("%s: %w", method, err)
	}
	return l, nil
}

// addBlock ends the block prev at its size and begins another one, on none of
// the nodes avoid.
func (n *nameNode) addBlock(ctx context.Context, m manner, f *File, prev *block, avoid []node) (located, error) {
	q := putString(putString(nil, 1, f.path), 2, n.name)
	if prev != nil {
		q = putBytes(q, 3, prev.encode())
	}
	for _, d := range avoid {
		q = putBytes(q, 4, d.info)
	}
	return n.locate(ctx, m, "addBlock", putUint(q, 5, f.id))
}

// abandonBlock takes a block that holds nothing acknowledged out of its file.
func (n *nameNode) abandonBlock(ctx context.Context, m manner, f *File, b block) error {
	q := putString(putString(putBytes(nil, 1, b.encode()), 2, f.path), 3, n.name)
	_, err := n.call(ctx, m, "abandonBlock", putUint(q, 4, f.id))
	return err
}

// complete closes a file whose last block is last. false: not enough DataNodes
// have told the NameNode of the block yet. It may be repeated.
func (n *nameNode) complete(ctx context.Context, f *File, last *block) (bool, error) {
	q := putString(putString(nil, 1, f.path), 2, n.name)
	if last != nil {
		q = putBytes(q, 3, last.encode())
	}
	return n.yes(ctx, patient, "complete", putUint(q, 4, f.id))
}

// updateBlockForPipeline gives a block's next generation stamp. It fails for
// whoever does not hold the lease: that is what fences a writer.
func (n *nameNode) updateBlockForPipeline(ctx context.Context, b block) (located, error) {
	return n.locate(ctx, patient, "updateBlockForPipeline", putString(putBytes(nil, 1, b.encode()), 2, n.name))
}

func (n *nameNode) updatePipeline(ctx context.Context, from, to block, nodes []node) error {
	q := putBytes(putBytes(putString(nil, 1, n.name), 2, from.encode()), 3, to.encode())
	for _, d := range nodes {
		q = putBytes(q, 4, d.id)
	}
	for _, d := range nodes {
		q = putString(q, 5, d.storage)
	}
	_, err := n.call(ctx, patient, "updatePipeline", q)
	return err
}

// additionalDataNode answers the nodes have and one more.
func (n *nameNode) additionalDataNode(ctx context.Context, f *File, b block, have, avoid []node) (located, error) {
	q := putBytes(putString(nil, 1, f.path), 2, b.encode())
	for _, d := range have {
		q = putBytes(q, 3, d.info)
	}
	for _, d := range avoid {
		q = putBytes(q, 4, d.info)
	}
	q = putString(putUint(q, 5, 1), 6, n.name)
	for _, d := range have {
		q = putString(q, 7, d.storage)
	}
	return n.locate(ctx, patient, "getAdditionalDatanode", putUint(q, 8, f.id))
}

// fsync tells the NameNode how long the last block is, so that readers see it.
func (n *nameNode) fsync(ctx context.Context, f *File, length int64) error {
	q := putSint(putString(putString(nil, 1, f.path), 2, n.name), 3, length)
	_, err := n.call(ctx, brisk, "fsync", putUint(q, 4, f.id))
	return err
}

// renewLease keeps every file of ours ours.
func (n *nameNode) renewLease(ctx context.Context) error {
	_, err := n.call(ctx, brisk, "renewLease", putString(nil, 1, n.name))
	return err
}

// recoverLease takes the lease of whoever writes the file, us too. true: it is closed.
func (n *nameNode) recoverLease(ctx context.Context, path string) (bool, error) {
	return n.yes(ctx, brisk, "recoverLease", putString(putString(nil, 1, path), 2, n.name+"-recover"))
}

func (n *nameNode) isFileClosed(ctx context.Context, path string) (bool, error) {
	return n.yes(ctx, brisk, "isFileClosed", putString(nil, 1, path))
}

// truncate answers whether the file has its new length already.
func (n *nameNode) truncate(ctx context.Context, path string, size int64) (bool, error) {
	q := putUint(putString(nil, 1, path), 2, uint64(size))
	return n.yes(ctx, brisk, "truncate", putString(q, 3, n.name+"-truncate"))
}

func (n *nameNode) rename(ctx context.Context, from, to string, replace bool) error {
	_, err := n.call(ctx, brisk, "rename2", putBool(putString(putString(nil, 1, from), 2, to), 3, replace))
	return err
}

const folderPermission = 0o755

// mkdirs makes a folder and those above it; those that are there stay.
func (n *nameNode) mkdirs(ctx context.Context, path string) error {
	q := putBytes(putString(nil, 1, path), 2, putUint(nil, 1, folderPermission))
	_, err := n.call(ctx, brisk, "mkdirs", putBool(q, 3, true))
	return err
}

// remove deletes a file or an empty folder; false: there was none.
func (n *nameNode) remove(ctx context.Context, path string) (bool, error) {
	return n.yes(ctx, brisk, "delete", putBool(putString(nil, 1, path), 2, false))
}

// ping asks for something that costs the NameNode next to nothing.
func (n *nameNode) ping(ctx context.Context, path string) error {
	_, err := n.call(ctx, brisk, "getFileInfo", putString(nil, 1, path))
	return err
}

// replication is the cluster's default for files.
func (n *nameNode) replication(ctx context.Context) (int, error) {
	s, err := n.sub(ctx, brisk, "getServerDefaults", nil)
	if err != nil {
		return 0, err
	}
	f, err := decode(s)
	if err == nil && (f.u[4] == 0 || f.u[4] > 1<<15) {
		err = fmt.Errorf("a replication of %d", f.u[4])
	}
	if err != nil {
		return 0, fmt.Errorf("getServerDefaults: %w", err)
	}
	return int(f.u[4]), nil
}
