package thrift

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

func TestStopDoesNotWaitForThePauseOfAFailingAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := start(t, l, &double{}, Options{})
		for range 10 {
			l.failures <- errors.New("too many open files")
		}
		began := time.Now()
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("the stop took %v", took)
		}
	})
}

func TestStopAnswersCallsUnderWayAndClosesBetweenFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		release := make(chan struct{})
		s := start(t, l, &double{log: func(_ context.Context, c *Call) Result {
			if len(c.Entries) > 0 {
				<-release
			}
			return OK
		}}, Options{})
		idle, waiting, half := l.dial(), l.dial(), l.dial()
		for _, c := range []net.Conn{idle, waiting, half} {
			defer c.Close()
			exchange(t, c, framed(logCall(1)))
		}
		go waiting.Write(join(framed(logCall(2, entryOf("a", "b"))), framed(logCall(3))))
		frame := framed(logCall(4, entryOf("a", strings.Repeat("m", 10_000))))
		half.Write(frame[:5000])
		synctest.Wait()

		stopped := make(chan error)
		go func() { stopped <- s.Stop(t.Context()) }()
		synctest.Wait()
		closedBy(t, idle)
		go half.Write(frame[5000:])
		time.Sleep(2 * time.Second)
		close(release)
		wantBytes(t, "the call under way", closedBy(t, waiting), logAnswer(2, 0))
		wantBytes(t, "the frame that had begun", closedBy(t, half), logAnswer(4, 0))
		if err := <-stopped; err != nil {
			t.Errorf("Stop: %v", err)
		}
		if err := <-s.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := s.Serve(t.Context(), newPipes()); !errors.Is(err, ErrStopped) {
			t.Errorf("Serve after Stop: %v", err)
		}
		s.served <- nil
	})
}

func TestStopCutsWhatIsNotDoneInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := start(t, l, &double{log: func(ctx context.Context, _ *Call) Result {
			<-ctx.Done()
			return TryLater
		}}, Options{})
		waiting, half := l.dial(), l.dial()
		defer waiting.Close()
		defer half.Close()
		waiting.Write(framed(logCall(2, entryOf("a", "b"))))
		half.Write([]byte{0, 0})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		err := s.Stop(ctx)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 connections") {
			t.Errorf("Stop: %v", err)
		}
	})
}

func TestServeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(&double{log: func(ctx context.Context, _ *Call) Result { <-ctx.Done(); return TryLater }}, Options{Log: zap.NewNop()})
		l := newPipes()
		ctx, cancel := context.WithCancelCause(t.Context())
		served := make(chan error)
		go func() { served <- s.Serve(ctx, l) }()
		idle, waiting := l.dial(), l.dial()
		defer idle.Close()
		defer waiting.Close()
		waiting.Write(framed(logCall(2, entryOf("a", "b"))))
		synctest.Wait()
		why := errors.New("power is going")
		cancel(why)
		if err := <-served; !errors.Is(err, why) {
			t.Errorf("Serve: %v", err)
		}
		if n := s.Stats().Connections; n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

func TestServeSaysThatItsListenerWasClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(&double{}, Options{Log: zap.NewNop()})
		l := newPipes()
		served := make(chan error)
		go func() { served <- s.Serve(t.Context(), l) }()
		c := l.dial()
		defer c.Close()
		exchange(t, c, framed(logCall(1)))
		l.Close()
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
		closedBy(t, c)
	})
}
