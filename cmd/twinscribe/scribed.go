package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"twinscribe/conf"
)

// defaultScribeConf is the file that an original scribed reads where none is named.
const defaultScribeConf = "/usr/local/scribe/scribe.conf"

func scribedCommand() *cobra.Command {
	var file string
	port := 0
	c := &cobra.Command{
		Use:   "scribed [FILE]",
		Short: "run the server with a configuration of the original Scribe",
		Long: `scribed runs the server as the original scribed does, with its configuration and its options. It
is also what the binary does under the name scribed.

What the file says and what becomes of it is told by 'twinscribe check FILE'. A file with a mistake
does not start: the original started and threw messages away. HUP and fb303 reinitialize read the
file again, TERM and fb303 shutdown store everything before they end the server.

Without a file it reads ` + defaultScribeConf + `.`,
		Example: "  scribed -c /etc/scribe.conf\n  scribed -p 1463 scribe.conf",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				if file != "" {
					return usage("-c %s and %s: name one file", file, args[0])
				}
				file = args[0]
			}
			named := file != ""
			if !named {
				file = defaultScribeConf
			}
			if port < 0 || port > 65535 {
				return usage("-p %d: want a port, 1 to 65535", port)
			}
			return serve(c, func() (*conf.Config, []string, error) {
				m, warnings, err := conf.LoadScribe(file, conf.ScribeOptions{Port: port, State: stateFolder})
				if errors.Is(err, fs.ErrNotExist) && !named {
					err = fmt.Errorf("%w: name the file: scribed -c FILE", err)
				}
				if err != nil {
					return nil, warnings, err
				}
				return m.Config, warnings, nil
			})
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "configuration `FILE`")
	c.Flags().IntVarP(&port, "port", "p", 0, "`PORT` to listen on, where the file names none")
	return c
}
