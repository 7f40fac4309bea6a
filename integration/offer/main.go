// Command offer runs the clients of a lab.Offer, given as JSON, and prints what
// became of it as JSON. The tests start it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"twinscribe/integration/lab"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: offer JSON (a lab.Offer)")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o lab.Offer
	err := json.Unmarshal([]byte(os.Args[1]), &o)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(o.Run(ctx))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "offer:", err)
		os.Exit(1)
	}
}
