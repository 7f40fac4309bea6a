package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.uber.org/zap"

	"twinscribe/conf"
)

// reloadStatus is how the last reload ended.
type reloadStatus struct {
	At    int64  `json:"at"` // seconds since 1970 UTC; 0: there was none
	Error string `json:"error,omitempty"`
}

// mostMistakes is how many mistakes of a refused reload are told outside of the log.
const mostMistakes = 3

// refusal is what is told, in one line, as long as the last reload was refused;
// empty: it was not.
func (r *reloadStatus) refusal() string {
	if r.Error == "" {
		return ""
	}
	told := strings.Split(r.Error, "\n")
	more := ""
	if n := len(told) - mostMistakes; n > 0 {
		told, more = told[:mostMistakes], fmt.Sprintf(" (and %d more)", n)
	}
	return fmt.Sprintf("the reload of %s was refused, and what was in force before it still is: %s%s",
		time.Unix(r.At, 0).UTC().Format(time.RFC3339), strings.Join(told, "; "), more)
}

// refusedReload is the refusal of the last reload: Scribe too shows WARNING
// until there is a good one.
func (s *Server) refusedReload() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloaded.refusal()
}

// reloadPatience bounds a reload: chains are built, no cluster is called.
const reloadPatience = 10 * time.Second

// Reload reads the configuration again, checks and builds everything, and then
// swaps at the batches' edges. With an error nothing has changed. Reloads take
// turns.
func (s *Server) Reload(ctx context.Context) (warnings []string, err error) {
	select {
	case s.reloads <- struct{}{}:
		defer func() { <-s.reloads }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() {
		s.mu.Lock()
		s.reloaded = reloadStatus{At: time.Now().Unix()}
		if err != nil {
			s.reloaded.Error = err.Error()
		} else {
			s.warnings = warnings
			if s.part.warning != "" {
				s.warnings = append(s.warnings, s.part.warning)
			}
		}
		s.mu.Unlock()
	}()
	cfg, warnings, err := s.o.Load()
	if err == nil {
		err = fixed(s.o.Config, cfg)
	}
	if err == nil {
		err = s.swap(ctx, cfg)
	}
	if err != nil {
		s.log.Error("reload: nothing has changed", zap.Error(err))
		return nil, err
	}
	warnings = append(warnings, later(s.o.Config, cfg)...)
	s.current.Store(cfg)
	s.mu.Lock()
	s.notSent = nil // a reload tells all of it again
	s.mu.Unlock()
	s.places.files.Reopen()
	s.beginLeftovers(cfg)
	select {
	case s.brought <- struct{}{}:
	default: // it is looked at anyway
	}
	s.setLevel(cfg)
	s.limitMemory(cfg)
	s.log.Info("reloaded", zap.Strings("warnings", warnings))
	return warnings, nil
}

func (s *Server) swap(ctx context.Context, cfg *conf.Config) error {
	c, err := s.aggregatorConfig(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	return s.aggregator.Reload(ctx, c)
}

// fixed refuses what is decided for the life of a process.
func fixed(old, cfg *conf.Config) error {
	var errs []error
	for _, f := range []struct{ key, old, new string }{
		{"state", old.State, cfg.State},
		{"buffer.path", BufferPath(old), BufferPath(cfg)},
	} {
		if f.old == f.new || f.key == "buffer.path" && old.State != cfg.State {
			continue
		}
		errs = append(errs, fmt.Errorf("%s: %s, was %s: it cannot change while the server runs, and a start with the new folder would leave what waits in the old one: put back what was there, if need be with the key %[1]s, or stop the server, move %[3]s to %[2]s and start it again",
			f.key, f.new, f.old))
	}
	for _, f := range []struct {
		key      string
		old, new any
	}{
		{"id", old.ID, cfg.ID},
		{"listen", old.Listen, cfg.Listen},
		{"clusters", old.Clusters, cfg.Clusters},
	} {
		if !reflect.DeepEqual(f.old, f.new) {
			errs = append(errs, fmt.Errorf("%s: it cannot change while the server runs: put back what was there, or restart it (TERM loses nothing)",
				difference(f.key, reflect.ValueOf(f.old), reflect.ValueOf(f.new))))
		}
	}
	return errors.Join(errs...)
}

// difference names the first key at or below one in which two values differ,
// and both values where they are short.
func difference(key string, a, b reflect.Value) string {
	switch a.Kind() {
	case reflect.Pointer:
		if !a.IsNil() && !b.IsNil() {
			return difference(key, a.Elem(), b.Elem())
		}
		return key
	case reflect.Slice:
		if a.Type().Elem().Kind() != reflect.Struct {
			break
		}
		for i := range min(a.Len(), b.Len()) {
			if !reflect.DeepEqual(a.Index(i).Interface(), b.Index(i).Interface()) {
				return difference(fmt.Sprintf("%s[%d]", key, i), a.Index(i), b.Index(i))
			}
		}
		return key
	case reflect.Struct:
		for i := range a.NumField() {
			if f := a.Type().Field(i); !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
				name := f.Tag.Get("mapstructure")
				if name == "" {
					name = strings.ToLower(f.Name)
				}
				return difference(key+"."+name, a.Field(i), b.Field(i))
			}
		}
		return key
	}
	return fmt.Sprintf("%s: %v, was %v", key, b, a)
}

// later names what was changed and takes effect with the next start.
func later(old, cfg *conf.Config) (warnings []string) {
	for _, f := range []struct {
		key      string
		old, new any
	}{
		{"limits.connections", old.Limits.Connections, cfg.Limits.Connections},
		{"limits.connections_per_ip", old.Limits.ConnectionsPerIP, cfg.Limits.ConnectionsPerIP},
		{"limits.frame", old.Limits.Frame, cfg.Limits.Frame},
		{"limits.frame_memory", old.Limits.FrameMemory, cfg.Limits.FrameMemory},
		{"limits.entries", old.Limits.Entries, cfg.Limits.Entries},
		{"timeouts.frame", old.Timeouts.Frame, cfg.Timeouts.Frame},
		{"timeouts.idle", old.Timeouts.Idle, cfg.Timeouts.Idle},
		{"timeouts.reply", old.Timeouts.Reply, cfg.Timeouts.Reply},
		{"buffer", old.Buffer, cfg.Buffer},
		{"visible_within", old.VisibleIn, cfg.VisibleIn},
		{"visibility_seals", old.Seals, cfg.Seals},
		{"retention", old.Retention, cfg.Retention},
		{"fb303_version", old.FB303Version, cfg.FB303Version},
		{"log.format", old.Log.Format, cfg.Log.Format},
	} {
		if f.old != f.new {
			warnings = append(warnings, fmt.Sprintf("%s: the new value takes effect with the next start", f.key))
		}
	}
	for path, most := range spoolLimits(cfg) {
		if before, known := spoolLimits(old)[path]; known && before != most {
			warnings = append(warnings, fmt.Sprintf("max_bytes of the buffer in %s: the new value takes effect with the next start", path))
		}
	}
	return warnings
}

// spoolLimits are the limits of the folders with spools, by path.
func spoolLimits(cfg *conf.Config) map[string]conf.Size {
	limits := make(map[string]conf.Size)
	for i := range cfg.Category {
		for _, st := range cfg.Category[i].Each() {
			stores := []conf.Store{st}
			if st.Bucket != nil {
				stores = st.Bucket.Stores
			}
			for j := range stores {
				if p := spoolOf(&stores[j]); p != nil {
					limits[p.Path] = p.MaxBytes
				}
			}
		}
	}
	return limits
}

// AskReload reloads in the background, for whoever cannot wait for the end: HUP
// and fb303's reinitialize. How it ends is logged, and in the status.
func (s *Server) AskReload() {
	select {
	case s.asked <- struct{}{}:
	default: // one is to come anyway
	}
}

// lookAgain is how long after the end of a chain with messages in its spool
// these are looked for: many chains may end at once.
const lookAgain = time.Second / 2

func (s *Server) reloadWhenAsked(ctx context.Context) {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.asked:
			_, _ = s.Reload(ctx)
		case <-s.places.left: // a reload has closed a chain: who has its spool now?
			again = time.After(lookAgain)
		case <-again:
			again = nil
			s.beginAgain(ctx)
		}
	}
}

// beginAgain looks for what chains have left that a reload has closed, unless
// they were closed because the server stops.
func (s *Server) beginAgain(ctx context.Context) {
	select {
	case s.reloads <- struct{}{}:
		defer func() { <-s.reloads }()
	case <-s.stopping:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-s.stopping:
	default:
		s.beginLeftovers(s.inForce())
	}
}
