//go:build !failpoints

package failpoint

// Here is a moment between two steps. In an ordinary build it is nothing.
func Here(string) {}
