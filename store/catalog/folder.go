package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Limits of a category's folder.
const (
	// MaxFolder is the length of the longest folder name, in bytes: half of
	// what file systems allow, so that whoever copies the tree may add to it.
	MaxFolder = 128

	// hashMark stands between the prefix and the hash of a name that was too
	// long. Encoding never yields it, so that no other name can look like one.
	hashMark  = '~'
	hashBytes = 16

	// noCategory is the folder of the empty category. Encoding never yields a
	// percent sign without two digits behind it.
	noCategory = "%"
)

const upperHex = "0123456789ABCDEF"

// Folder is the name of the folder that holds a category, below a cluster's
// root: one element of a path, never "." or "..", never with a leading
// underscore or dot (Hadoop's readers skip those, and folders of our own begin
// so). Two categories never share a folder.
//
// [A-Za-z0-9.-] and '_' stand for themselves, but for a leading '.' or '_'; every
// other byte is percent-encoded with upper-case digits. A result longer than
// MaxFolder becomes a prefix of it, a '~' and 32 hex digits of the category's
// SHA-256; the full name stands in the manifests below it. The empty category
// is "%": it has a folder because every category must have one, though the
// aggregator sends blank categories to the dead letters.
func Folder(category string) string {
	if category == "" {
		return noCategory
	}
	var b strings.Builder
	b.Grow(min(len(category)+8, MaxFolder+3))
	fits := 0 // the length up to the last encoded byte that leaves room for the hash
	for i := range len(category) {
		c := category[i]
		if plain(c) && (i > 0 || c != '.' && c != '_') {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
		if b.Len() <= MaxFolder-1-2*hashBytes {
			fits = b.Len()
		}
		if b.Len() > MaxFolder {
			sum := sha256.Sum256([]byte(category))
			return b.String()[:fits] + string(hashMark) + hex.EncodeToString(sum[:hashBytes])
		}
	}
	return b.String()
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_'
}

// Category is the category that a folder holds. It is false for a folder whose
// name was hashed (a manifest in it tells the name) and for one that Folder
// never makes.
func Category(folder string) (string, bool) {
	if folder == noCategory {
		return "", true
	}
	if len(folder) > MaxFolder {
		return "", false
	}
	b := make([]byte, 0, len(folder))
	for i := 0; i < len(folder); i++ {
		c := folder[i]
		if c != '%' {
			b = append(b, c)
			continue
		}
		if i+2 >= len(folder) {
			return "", false
		}
		hi, lo := strings.IndexByte(upperHex, folder[i+1]), strings.IndexByte(upperHex, folder[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	// Only the one spelling that Folder writes counts: "%41" is not A's folder.
	category := string(b)
	if category == "" || Folder(category) != folder {
		return "", false
	}
	return category, true
}

// HashedFolder says whether a folder's name has the form of one that was too
// long, so that only a manifest below it tells the category.
func HashedFolder(folder string) bool {
	cut := len(folder) - 2*hashBytes - 1
	if cut <= 0 || len(folder) > MaxFolder || folder[cut] != hashMark {
		return false
	}
	return strings.Trim(folder[cut+1:], "0123456789abcdef") == ""
}
