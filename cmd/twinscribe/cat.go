package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"twinscribe/thrift"
	"twinscribe/thrift/client"
)

// A call of cat holds at most so many messages and about so many bytes.
const (
	catMessages = 1000
	catBytes    = 1 << 20
)

func catCommand() *cobra.Command {
	var addrs []string
	var timeout time.Duration
	whole := false
	c := &cobra.Command{
		Use:   "cat CATEGORY",
		Short: "send standard input, a line a message",
		Long: `cat sends standard input under a category, a line a message, and ends when all of it is
acknowledged. With --whole all of standard input is one message.

A call that is answered TRY_LATER is sent again, with growing pauses, until --timeout is over. The
calls are numbered, so that a call that had to be sent twice is read once.`,
		Example: "  tail -F access.log | twinscribe cat web",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := client.New(client.Options{Addrs: addrs})
			if err != nil {
				return usage("%v", err)
			}
			defer cl.Close()
			s := &sender{c: c, client: cl, category: []byte(args[0]), timeout: timeout}
			if whole {
				return s.whole()
			}
			return s.lines()
		},
	}
	c.Flags().StringSliceVar(&addrs, "addr", []string{defaultThrift}, "HOST:PORT of the server, or several with commas")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "for one call with all its repetitions")
	c.Flags().BoolVar(&whole, "whole", false, "all of standard input is one message")
	return c
}

// sender sends standard input in calls.
type sender struct {
	c        *cobra.Command
	client   *client.Client
	category []byte
	timeout  time.Duration
	entries  []thrift.Entry
	bytes    int
	sent     int
}

func (s *sender) whole() error {
	b, err := io.ReadAll(s.c.InOrStdin())
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	s.add(b)
	return s.send()
}

func (s *sender) lines() error {
	in := bufio.NewReaderSize(s.c.InOrStdin(), catBytes)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			s.add(line)
		}
		// what is there goes out together; what is waited for does not hold it up
		if len(s.entries) >= catMessages || s.bytes >= catBytes || in.Buffered() == 0 || err != nil {
			if e := s.send(); e != nil {
				return e
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
	}
}

func (s *sender) add(message []byte) {
	s.entries = append(s.entries, thrift.Entry{Category: s.category, Message: message})
	s.bytes += len(message)
}

func (s *sender) send() error {
	if len(s.entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.c.Context(), s.timeout)
	defer cancel()
	if err := s.client.Log(ctx, s.entries); err != nil {
		return fmt.Errorf("%d messages were acknowledged before this: %w", s.sent, err)
	}
	s.sent += len(s.entries)
	s.entries, s.bytes = s.entries[:0], 0
	return nil
}
