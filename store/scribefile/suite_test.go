package scribefile

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"

	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/store"
	"twinscribe/store/storetest"
)

// remembers is a Place that knows what it was asked to store: a file of lines
// does not tell where a message with line feeds ends.
type remembers struct {
	*Place
	mu    sync.Mutex
	asked []string
}

func (m *remembers) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	m.mu.Lock()
	for i := range b.Len() {
		m.asked = append(m.asked, string(b.Message(i)))
	}
	m.mu.Unlock()
	return m.Place.Append(ctx, b)
}

// stored is what of it stands in the content, in order.
func (m *remembers) stored(t *testing.T, content string) (found []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.asked {
		if rest, ok := strings.CutPrefix(content, a+"\n"); ok {
			found, content = append(found, a), rest
		}
	}
	if content != "" {
		t.Errorf("the files hold what nobody sent: %.80q", content)
	}
	return found
}

func TestPlacesKeepTheContractOfAStore(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"plain":  func(*Spec) {},
		"synced": func(s *Spec) { s.Sync = true },
		"small":  func(s *Spec) { s.MaxSize, s.MaxWriteSize = 3, 2 },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Subject {
				r := newRig(t, Options{})
				spec := webSpec()
				change(&spec)
				m := &remembers{Place: r.open(spec)}
				return storetest.Subject{
					Store: m,
					Stored: func() []string {
						var all strings.Builder
						for _, name := range r.disk.Files() { // sorted, so by number
							all.WriteString(r.read(name))
						}
						return m.stored(t, all.String())
					},
					Block: func() (release func()) {
						m.w.turn <- struct{}{} // another chain that shares the file
						return m.w.give
					},
					Refuse: func() (heal func()) {
						r.fsys.Set(faultfs.Any(faultfs.On(faultfs.Create, "", syscall.EIO), faultfs.On(faultfs.Write, "", syscall.EIO)))
						return func() { r.fsys.Set(nil) }
					},
				}
			})
		})
	}
}

// batchOf is a batch of category web.
func batchOf(messages []string) *store.Batch { return storetest.Batch(1, messages...) }
