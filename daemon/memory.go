package daemon

import "twinscribe/conf"

const (
	// ownMemory is for everything that no limit bounds: the program, its
	// pools, what is known of files and categories.
	ownMemory = 16 << 20
	// connMemory is a connection: its goroutine's stack and its buffer.
	connMemory = 16 << 10
)

// limitMemory says what the process may have in memory when every limit is
// reached. The garbage collector gets it as its target: by itself it lets the
// heap grow to twice what is in use.
func (s *Server) limitMemory(cfg *conf.Config) {
	if s.o.LimitMemory == nil {
		return
	}
	t := s.thrift.Stats()
	s.o.LimitMemory(int64(cfg.Limits.Memory) + t.FrameLimit + t.MostAtOnce*connMemory + ownMemory)
}
