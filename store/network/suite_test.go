package network

import (
	"context"
	"net"
	"sync"
	"testing"

	"go.uber.org/zap"

	"twinscribe/store/storetest"
	"twinscribe/thrift"
)

// TestNetworkIsAStore holds the place against the contract, with a real server
// on a real socket.
func TestNetworkIsAStore(t *testing.T) {
	for name, spec := range map[string]Spec{
		"own connection":    {},
		"shared connection": {Shared: true},
		"with ids":          {BatchIDs: true},
		"small frames":      {MaxFrame: 400 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Subject { return subject(t, spec) })
		})
	}
}

// TestAServerThatWasRestarted has what a restart leaves on a real socket: the
// chain's connection is closed at the other end.
func TestAServerThatWasRestarted(t *testing.T) {
	for _, ids := range []bool{true, false} {
		w := &world{t: t}
		r := &receiver{w: w}
		addr := "127.0.0.1:0"
		serve := func() (stop func()) {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			addr = l.Addr().String()
			server := thrift.New(r, thrift.Options{Log: zap.NewNop()})
			served := make(chan struct{})
			go func() {
				defer close(served)
				server.Serve(context.Background(), l)
			}()
			return func() {
				if err := server.Stop(context.Background()); err != nil {
					t.Error(err)
				}
				<-served
			}
		}
		stop := serve()
		s := chain(t, NewPool(Options{Identity: thisStart, Log: zap.NewNop()}), Spec{Servers: []string{addr}, BatchIDs: ids})
		taken(t, s, storetest.Batch(1, "before"))
		stop()
		stop = serve()
		s.conn.last = s.conn.last.Add(-idleAfter)
		taken(t, s, storetest.Batch(2, "after"))
		wantMessages(t, "came", w.messages(), "before", "after")
		shut(t, s)
		stop()
	}
}

func subject(t *testing.T, spec Spec) storetest.Subject {
	w := &world{t: t}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{w: w}
	server := thrift.New(r, thrift.Options{Log: zap.NewNop()})
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(context.Background(), l)
	}()
	spec.Servers = []string{l.Addr().String()}
	s := chain(t, NewPool(Options{Identity: thisStart, Log: zap.NewNop()}), spec)
	t.Cleanup(func() {
		s.Close(context.Background())
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		<-served
	})
	return storetest.Subject{
		Store:  s,
		Stored: w.messages,
		Block: func() func() {
			hold := make(chan struct{})
			r.answers(func(call) thrift.Result { <-hold; return thrift.TryLater })
			var once sync.Once
			return func() {
				once.Do(func() { close(hold) })
				r.answers(nil)
			}
		},
		Refuse: func() func() {
			r.answers(tryLater)
			return func() {
				r.answers(nil)
				s.pause.end()
			}
		},
	}
}
