package reader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
)

// A site is a cluster during one read. The first call that it does not answer
// takes it out of the rest of the read: an answer made of parts before and
// after an outage would take long and be told as one that is missing anyway.
type site struct {
	name    string
	c       cluster.Cluster
	timeout time.Duration // of one call that reads no data

	mu   sync.Mutex
	away error
}

// gone says why the cluster takes no part any more; nil: it does.
func (s *site) gone() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

// note looks whether an error concerns the cluster as a whole. parent is the
// context of the read, which may have ended by itself.
func (s *site) note(parent context.Context, err error) {
	if err == nil || parent.Err() != nil {
		return
	}
	if errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.away == nil {
			s.away = err
		}
	}
}

func (s *site) list(ctx context.Context, folder string) ([]cluster.Info, error) {
	if err := s.gone(); err != nil {
		return nil, err
	}
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	list, err := s.c.List(call, folder)
	s.note(ctx, err)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// size is the length of a file; -1 where there is none.
func (s *site) size(ctx context.Context, path string) (int64, error) {
	if err := s.gone(); err != nil {
		return 0, err
	}
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	info, err := s.c.Stat(call, path)
	s.note(ctx, err)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && info.Folder:
		return -1, nil
	case err != nil:
		return 0, err
	}
	return info.Size, nil
}

// open gives a reader that lives as long as ctx does.
func (s *site) open(ctx context.Context, path string) (cluster.Reader, error) {
	if err := s.gone(); err != nil {
		return nil, err
	}
	r, err := s.c.Open(ctx, path)
	s.note(ctx, err)
	return r, err
}

// load reads a small file whole.
func (s *site) load(ctx context.Context, path string, limit int64) ([]byte, error) {
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.gone(); err != nil {
		return nil, err
	}
	r, err := s.c.Open(call, path)
	if err != nil {
		s.note(ctx, err)
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		s.note(ctx, err)
		return nil, fmt.Errorf("%s:%s: %w", s.name, path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s:%s: more than %d bytes: %w", s.name, path, limit, catalog.ErrMalformed)
	}
	return b, nil
}
