package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/conf"
	"twinscribe/daemon"
	"twinscribe/store/statedir"
)

// configFlags choose a configuration: a file, or the embedded default below a folder.
type configFlags struct {
	file, data string
	port       int
	listens    bool // the command runs the server
}

func (f *configFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.file, "config", "c", "", "configuration `FILE`; without one the embedded default: two local directories as clusters")
	c.Flags().StringVar(&f.data, "data", defaultData, "`DIR` of the embedded default's data")
	c.Flags().IntVarP(&f.port, "port", "p", 0, "`PORT` that scribed is given, where a Scribe configuration names none")
	c.MarkFlagsMutuallyExclusive("config", "data")
	c.MarkFlagsMutuallyExclusive("port", "data")
}

// load gives the configuration and what is to be said about it though it is valid.
func (f *configFlags) load() (*conf.Config, []string, error) {
	switch {
	case f.port < 0 || f.port > 65535:
		return nil, nil, usage("-p %d: want a port, 1 to 65535", f.port)
	case conf.IsScribe(f.file):
		m, warnings, err := conf.LoadScribe(f.file, conf.ScribeOptions{Port: f.port, Tool: !f.listens, State: stateFolder})
		if err != nil {
			return nil, warnings, err
		}
		return m.Config, warnings, nil
	case f.file != "":
		return conf.Load(f.file)
	}
	cfg, err := conf.Embedded(f.data)
	return cfg, nil, err
}

// stateFolder finds a server's state on this machine.
func stateFolder(folders []string) (chosen string, others, beside []string) {
	return statedir.Choose(vfs.OS(), folders)
}

func serveCommand() *cobra.Command {
	f := configFlags{listens: true}
	c := &cobra.Command{
		Use:   "serve",
		Short: "run the server",
		Long: `serve runs the server until TERM, INT, 'ctl stop' or fb303 shutdown. HUP and 'ctl reload' read
the configuration again; one with a mistake changes nothing.

Without -c it is the embedded default, all on loopback: two local directories as clusters n1 and
n2 and a buffer below --data, Thrift on 1463, HTTP on 14630.

The exit status is 0 if everything acknowledged is durable, 1 otherwise.`,
		Example: "  twinscribe serve\n  twinscribe serve -c /etc/twinscribe.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return serve(c, f.load) },
	}
	f.add(c)
	return c
}

func serve(c *cobra.Command, load func() (*conf.Config, []string, error)) error {
	cfg, warnings, err := load()
	if err != nil {
		return err
	}
	level := zap.NewAtomicLevel()
	log, err := newLogger(cfg, level, c.ErrOrStderr())
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // standard error of a terminal cannot be synced
	for _, w := range warnings {
		log.Warn(w)
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	s, err := daemon.Start(ctx, daemon.Options{
		Config: cfg, Warnings: warnings, Load: load, Version: version, Log: log, Level: level,
		LimitMemory: limitMemory,
	})
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				s.AskReload()
			}
		}
	}()
	left, err := s.Run(ctx)
	if err == nil && left > 0 {
		err = fmt.Errorf("stopped with %d acknowledged messages in memory that no place took", left)
	}
	return err
}

// limitMemory sets the target of the garbage collector, unless whoever started
// the process has.
func limitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}
