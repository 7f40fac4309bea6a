package files

import (
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
	"twinscribe/store/storetest"
)

func TestAChainIsAPlace(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		r := newRig(t, nil)
		spec := ChainSpec{Category: "web", Chain: 7, Idle: 100 * 365 * 24 * time.Hour}
		if scribesNames {
			spec.Layout = scribesLayout("web")
		}
		c := r.root.Chain(spec)
		return storetest.Subject{
			Store:  c,
			Stored: func() []string { return r.stored(c) },
			Block: func() func() {
				release := make(chan struct{})
				end := r.fault.Add(clustertest.Rule{Release: release})
				return func() { end(); close(release) }
			},
			Refuse: func() func() {
				return r.fault.Add(clustertest.Rule{Op: clustertest.OpAppend, Err: cluster.ErrUnavailable})
			},
		}
	})
}

// stored gives the messages of all files, open, torn and sealed, by what their
// manifests say.
func (r *rig) stored(c *Chain) (messages []string) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); r.root.Stats().Sealing+r.root.Stats().Opening > 0; {
		if time.Now().After(end) {
			r.t.Fatalf("not settled: %+v", r.root.Stats())
		}
		time.Sleep(time.Millisecond)
	}
	manifests := map[string]*catalog.Manifest{}
	for _, torn := range r.tears() {
		manifests[path.Base(torn.Path)] = torn.Manifest
	}
	if c.cur != nil {
		manifests[c.cur.name.Sealed()] = c.cur.held.Snapshot()
	}
	paths := r.walk(c.spec.Category)
	slices.SortFunc(paths, func(a, b string) int {
		return strings.Compare(strings.TrimPrefix(path.Base(a), "_"), strings.TrimPrefix(path.Base(b), "_"))
	})
	for _, p := range paths {
		name, form := catalog.ParseName(path.Base(p))
		m := manifests[name.Sealed()]
		switch form {
		case catalog.FormManifest:
			at, there := r.final(p)
			if !scribesNames || !there {
				continue
			}
			var err error
			if m, err = catalog.DecodeManifest(p, r.content(p)); err != nil {
				r.t.Fatal(err)
			}
			p = at
		case catalog.FormOther:
			continue
		case catalog.FormSealed:
			at := path.Join(path.Dir(p), name.Manifest())
			var err error
			if m, err = catalog.DecodeManifest(at, r.content(at)); err != nil {
				r.t.Fatal(err)
			}
		case catalog.FormOpen:
		}
		if m != nil {
			messages = append(messages, split(r.content(p)[:m.Bytes], m.LineFeeds)...)
		}
	}
	return messages
}

// split cuts a file's text into messages.
func split(text []byte, feeds []catalog.Span) (messages []string) {
	for at := int64(0); at < int64(len(text)); {
		end := at + int64(slices.Index(text[at:], '\n')) + 1
		if len(feeds) > 0 && feeds[0].Offset == at {
			end = at + feeds[0].Length
			feeds = feeds[1:]
		}
		messages = append(messages, string(text[at:end-1]))
		at = end
	}
	return messages
}
