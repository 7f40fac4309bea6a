package conf

import (
	"reflect"
	"testing"
)

func TestWhatIsWrittenElsewhereIsNamed(t *testing.T) {
	c := &Config{Category: []Category{
		{Match: "cluster", Store: Store{Failover: &Failover{Places: []Store{{Files: &Files{}}, {Buffer: &BufferPlace{}}}}}},
		{Match: "file", Store: Store{ScribeFiles: &ScribeFiles{ScribeNames: ScribeNames{FilePath: "/f"}}}},
		{Match: "copy", Stores: []Store{{Files: &Files{}}, {ScribeFiles: &ScribeFiles{ScribeNames: ScribeNames{FilePath: "/c"}}}}},
		{Match: "behind*", Store: Store{Failover: &Failover{Places: []Store{{Files: &Files{}}, {ScribeFiles: &ScribeFiles{ScribeNames: ScribeNames{FilePath: "/b"}}}}}}},
		{Match: "parts", Store: Store{Bucket: &Bucket{Stores: []Store{{Files: &Files{}}, {Network: &Network{Servers: []string{"h:2", "h:1"}}}, {Network: &Network{Servers: []string{"h:1"}}}}}}},
		{Match: "none", Store: Store{Null: &Null{}}},
	}}
	for category, want := range map[string]Elsewhere{
		"cluster": {}, "none": {}, "unknown": {},
		"file":    {Folders: []string{"/f"}, Only: true},
		"copy":    {Folders: []string{"/c"}},
		"behind1": {Folders: []string{"/b"}, Only: true},
		"parts":   {Servers: []string{"h:1", "h:2"}, Only: true},
		"":        {Folders: []string{"/b", "/c", "/f"}, Servers: []string{"h:1", "h:2"}, Only: true},
	} {
		if got := c.Elsewhere(category); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", category, got, want)
		}
	}
}
