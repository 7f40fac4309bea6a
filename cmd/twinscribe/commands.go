package main

import (
	"path/filepath"

	"github.com/spf13/cobra"
)

// Where the embedded default listens, and where its data lies.
const (
	defaultThrift = "127.0.0.1:1463"
	defaultHTTP   = "127.0.0.1:14630"
	defaultData   = "twinscribe-data"
)

// commands are all there are; cobra adds help and completion.
func commands() []*cobra.Command {
	return []*cobra.Command{
		serveCommand(),
		checkCommand(),
		catCommand(),
		ctlCommand(),
		readCommand(),
		lsCommand(),
		repairCommand(),
		bufferCommand(),
		benchCommand(),
		versionCommand(),
		scribedCommand(),
		scribeCatCommand(),
		scribeCtrlCommand(),
	}
}

// called is the arguments of a program that may be called by the name of one of
// the original's, which are commands here.
func called(argv []string) []string {
	switch name := filepath.Base(argv[0]); name {
	case "scribed", "scribe_cat", "scribe_ctrl":
		return append([]string{name}, argv[1:]...)
	}
	return argv[1:]
}
