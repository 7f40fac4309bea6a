// Package failpoint marks the moments between two steps at which a proof kills
// the process: what the program leaves behind then must be enough for the next
// start.
//
// A point costs nothing in an ordinary build: Here is an empty function, which
// the compiler leaves out. Built with the tag failpoints the program reads which
// points are armed and kills itself with SIGKILL at the passing that is asked for,
// with no more warning than a power cut gives.
//
// A name is what is being done, a dot, and what has just been done: begin.created.
// It stands in one place of the code only, as a literal, so that the code itself is
// the list of all points.
package failpoint
