//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

const (
	// envArmed names the points at which the process ends: NAME:PASSING, separated
	// by commas. The first passing is 1.
	envArmed = "TWINSCRIBE_FAILPOINTS"

	// envLog is a file to which a line is added for the first passing of each point,
	// "passed NAME", and for the one that kills, "killed NAME PASSING".
	envLog = "TWINSCRIBE_FAILPOINTS_LOG"
)

var points = sync.OnceValue(func() *list { return parse(os.Getenv(envArmed), os.Getenv(envLog), kill) })

// Here is a moment between two steps.
func Here(name string) { points().pass(name) }

// A list is what is armed in this process, and what was passed.
type list struct {
	kill func()
	log  *os.File // nil: nobody wants to know

	mu     sync.Mutex
	armed  map[string]int
	passed map[string]int
}

// parse panics where it does not understand what is armed: a proof must not
// take a point for armed that is not.
func parse(armed, log string, kill func()) *list {
	l := &list{kill: kill, armed: make(map[string]int), passed: make(map[string]int)}
	for point := range strings.SplitSeq(armed, ",") {
		if point == "" {
			continue
		}
		name, nth, ok := strings.Cut(point, ":")
		n, err := strconv.Atoi(nth)
		if !ok || err != nil || n < 1 {
			panic(fmt.Sprintf("%s: %q: want NAME:PASSING, from 1", envArmed, point))
		}
		l.armed[name] = n
	}
	if log != "" {
		f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			panic(fmt.Sprintf("%s: %v", envLog, err))
		}
		l.log = f
	}
	return l
}

// pass holds the mutex up to the kill, so that no other point of the same
// process is reached beside it.
func (l *list) pass(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passed[name]++
	n := l.passed[name]
	if n == 1 {
		l.note("passed %s\n", name)
	}
	if l.armed[name] == n {
		l.note("killed %s %d\n", name, n)
		l.kill()
	}
}

func (l *list) note(format string, args ...any) {
	if l.log != nil {
		fmt.Fprintf(l.log, format, args...)
	}
}

// kill does not return: the signal ends the process wherever it is.
func kill() {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {}
}
