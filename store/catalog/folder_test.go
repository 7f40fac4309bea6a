package catalog

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFolderOfACategory(t *testing.T) {
	for _, c := range []struct{ category, folder string }{
		{"web-access", "web-access"},
		{"web_access", "web_access"},
		{"web_", "web_"},
		{"_web", "%5Fweb"},
		{"__", "%5F_"},
		{"web.access.v2", "web.access.v2"},
		{".web", "%2Eweb"},
		{".", "%2E"},
		{"..", "%2E."},
		{"...", "%2E.."},
		{"../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"},
		{"a/b", "a%2Fb"},
		{"/", "%2F"},
		{"a:b", "a%3Ab"},
		{"a%2Fb", "a%252Fb"},
		{"%", "%25"},
		{"", "%"},
		{"nul\x00", "nul%00"},
		{"line\nfeed", "line%0Afeed"},
		{"Web", "Web"},
		{"WEB", "WEB"},
		{"größe", "gr%C3%B6%C3%9Fe"},
		{"\xff\xfe", "%FF%FE"},
		{"dt=2026-11-22", "dt%3D2026-11-22"},
		{"~", "%7E"},
		{"_members", "%5Fmembers"},
		{"a b", "a%20b"},
		{strings.Repeat("x", 128), strings.Repeat("x", 128)},
	} {
		got := Folder(c.category)
		if got != c.folder {
			t.Errorf("folder of %q is %q, want %q", c.category, got, c.folder)
		}
		if back, ok := Category(got); !ok || back != c.category {
			t.Errorf("category of %q is %q, %t; want %q", got, back, ok, c.category)
		}
		if HashedFolder(got) {
			t.Errorf("%q counts as hashed", got)
		}
	}
}

func TestFolderOfALongCategoryIsAPrefixAndAHash(t *testing.T) {
	for _, c := range []struct{ category, folder string }{
		{strings.Repeat("x", 129), strings.Repeat("x", 95) + "~0ec9eb33e74510bcdd1f2ea55206e82f"},
		// 31 whole escapes: the prefix never ends inside one.
		{strings.Repeat("/", 43), strings.Repeat("%2F", 31) + "~84fb696b241ae984e2a42b8c84e96c3f"},
	} {
		got := Folder(c.category)
		if got != c.folder {
			t.Errorf("folder of %d bytes is %q, want %q", len(c.category), got, c.folder)
		}
		if back, ok := Category(got); ok {
			t.Errorf("%q gives back %q, though it is hashed", got, back)
		}
		if !HashedFolder(got) {
			t.Errorf("%q does not count as hashed", got)
		}
		// The hashed folder's own name, logged as a category, has another folder.
		if again := Folder(got); again == got {
			t.Errorf("category %q shares the folder of a long one", got)
		}
	}
}

func TestFoldersThatAreNeverMadeHoldNoCategory(t *testing.T) {
	for _, folder := range []string{
		"", "%41", "%2f", "a/b", "_web", ".web", "%2", "%zz", "a%", "a b", "a~b", "ö",
		strings.Repeat("x", 129), "_members", "_inventory",
	} {
		if c, ok := Category(folder); ok {
			t.Errorf("folder %q counts as category %q", folder, c)
		}
	}
}

// anyCategory draws from bytes that are likely to meet each other's encodings.
var anyCategory = rapid.OneOf(
	rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.SampledFrom([]byte("a%/._~25FE\x00\xff")), 0, 6).Draw(t, "bytes"))
	}),
	rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 300), func(b []byte) string { return string(b) }),
	rapid.String(),
	rapid.Custom(func(t *rapid.T) string {
		return strings.Repeat(rapid.SampledFrom([]string{"a", "/", "ab", "%"}).Draw(t, "of"), rapid.IntRange(40, 300).Draw(t, "times"))
	}),
)

func TestTwoCategoriesNeverShareAFolder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := anyCategory.Draw(t, "a")
		b := rapid.OneOf(anyCategory, // neighbours of a: what careless encodings fold together
			rapid.SampledFrom([]string{strings.ToLower(a), strings.ToUpper(a), path.Clean(a), strings.TrimSpace(a),
				Folder(a), "./" + a, a + "/", strings.ToValidUTF8(a, "\ufffd")})).Draw(t, "b")
		checkFolder(t, a)
		checkFolder(t, b)
		if (Folder(a) == Folder(b)) != (a == b) {
			t.Fatalf("categories %q and %q have folders %q and %q", a, b, Folder(a), Folder(b))
		}
	})
}

// checkFolder checks what holds for every category by itself.
func checkFolder(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, category string) {
	t.Helper()
	folder := Folder(category)
	if len(folder) == 0 || len(folder) > MaxFolder {
		t.Fatalf("folder of %q has %d bytes", category, len(folder))
	}
	for i := range len(folder) {
		if c := folder[i]; !plain(c) && c != '%' && c != hashMark {
			t.Fatalf("folder of %q is %q: byte %d is not allowed", category, folder, i)
		}
	}
	if folder[0] == '.' || folder[0] == '_' || path.Join("root", folder) != "root/"+folder {
		t.Fatalf("folder of %q is %q, which is hidden or no single element", category, folder)
	}
	back, ok := Category(folder)
	switch {
	case ok && back != category:
		t.Fatalf("folder of %q gives back %q", category, back)
	case ok == HashedFolder(folder):
		t.Fatalf("folder %q of %q: reversible %t, hashed %t", folder, category, ok, HashedFolder(folder))
	}
}
