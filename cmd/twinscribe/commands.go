package main

import "github.com/spf13/cobra"

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
	}
}
