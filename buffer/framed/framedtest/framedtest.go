// Package framedtest writes buffer files byte for byte as Scribe's buffer
// stores do, for tests and for tools that prove an upgrade.
//
// It leaves to others: syncing, which the original never does, and damage.
package framedtest

import (
	"encoding/binary"
	"os"
	"path/filepath"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/vfs"
)

// Append appends the frames of a message to dst. With add_newlines the
// original adds a line feed to the message before that.
func Append(dst []byte, form framed.Form, category, message string) []byte {
	if form == framed.TwoFrames {
		dst = appendFrame(dst, category+"\n")
	}
	return appendFrame(dst, message)
}

func appendFrame(dst []byte, body string) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(body))), body...)
}

// AppendFile appends content to the buffer file of a number, as the original
// does when it opens its newest file again, and makes folder and file where
// they are missing. The result is the file's path.
func AppendFile(fsys vfs.FS, folder, base string, number uint64, content []byte) (path string, err error) {
	if err := fsys.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(folder, framed.Name(base, number))
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if e := f.Close(); err == nil {
		err = e
	}
	return path, err
}
