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
	for _, f := range []struct {
		key      string
		old, new any
	}{
		{"id", old.ID, cfg.ID},
		{"state", old.State, cfg.State},
		{"listen", old.Listen, cfg.Listen},
		{"buffer.path", old.Buffer.Path, cfg.Buffer.Path},
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
		{"log.format", old.Log.Format, cfg.Log.Format},
	} {
		if f.old != f.new {
			warnings = append(warnings, fmt.Sprintf("%s: the new value takes effect with the next start", f.key))
		}
	}
	return warnings
}

// AskReload reloads in the background, for whoever cannot wait for the end: HUP
// and fb303's reinitialize. How it ends is logged and in the status.
func (s *Server) AskReload() {
	select {
	case s.asked <- struct{}{}:
	default: // one is to come anyway
	}
}

func (s *Server) reloadWhenAsked(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.asked:
			_, _ = s.Reload(ctx)
		}
	}
}
