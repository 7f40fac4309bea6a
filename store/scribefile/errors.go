package scribefile

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"twinscribe/buffer/vfs"
	"twinscribe/store"
)

// What the original's status says, and operators look for.
const (
	statusOpen  = "File open error"
	statusWrite = "File write error"
)

var (
	errTooMany = errors.New("too many open files")
	errNumbers = errors.New("no number is left")
	errForeign = errors.New("somebody else changed the file's length")
	errTorn    = errors.New("its last line is torn")
)

// remedies, by cause. The first that fits is told.
var remedies = []struct {
	cause error
	do    string
}{
	{syscall.ENOSPC, "make room on the file system"},
	{syscall.EDQUOT, "make room, or raise the quota of the server's user"},
	{syscall.EFBIG, "raise the limit of a file's size (ulimit -f), or lower max_size"},
	{syscall.EROFS, "mount the file system for writing"},
	{errTooMany, "raise the limit of open files, or write fewer categories at once"},
	{syscall.EMFILE, "raise the descriptors that the process may have (ulimit -n)"},
	{syscall.ENFILE, "raise the descriptors of the machine (fs.file-max)"},
	{fs.ErrPermission, "let the server's user read and write there"},
	{syscall.ENOTDIR, "a file stands where a folder is needed: move it away"},
	{syscall.EISDIR, "a folder stands where a file is needed: move it away"},
	{syscall.ENAMETOOLONG, "shorten file_path or base_filename"},
	{syscall.ELOOP, "mend the symbolic links on the path"},
	{errNumbers, "move files with the highest numbers away"},
	{vfs.ErrLocked, "another process writes there: give each a file_path of its own"},
}

// explain makes what a call on path answered an error of this store: with the
// original's status, the path, the cause and what to do. A full disk is
// store.ErrFull.
func explain(status, path string, err error) error {
	cause := err
	var p *fs.PathError
	if errors.As(err, &p) {
		cause = fmt.Errorf("%s: %w", p.Op, p.Err)
		if p.Path != "" {
			path = p.Path
		}
	}
	do := "look after the disk"
	for _, r := range remedies {
		if errors.Is(err, r.cause) {
			do = r.do
			break
		}
	}
	if full(err) {
		return fmt.Errorf("%s: %s: %w: %w: %s", status, path, store.ErrFull, cause, do)
	}
	return fmt.Errorf("%s: %s: %w: %s", status, path, cause, do)
}

// full says whether only space is missing.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// noLocks says that a file system has no locks to give.
func noLocks(err error) bool {
	for _, no := range []error{syscall.ENOLCK, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EINVAL} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
