// Package thrift speaks Scribe's interface: framed Thrift over TCP, the binary
// protocol in its strict and its old form. It has the server with its limits
// and deadlines, an in-place decoder for Log, and the encoder that package
// thrift/client uses.
//
//	s := thrift.New(handler, thrift.Options{Log: log, MaxConnections: 10000})
//	go s.Serve(ctx, listener) // until Stop
//	...
//	s.Stop(ctx)
//
// It leaves to others: what becomes of a call (Handler; package aggregator is
// the one that counts).
//
// The IDL in idl is written by hand, the code in gen is made from it by
// thrift-compiler and never edited.
package thrift

//go:generate thrift -r --gen go:package_prefix=twinscribe/thrift/gen/,skip_remote -out gen idl/scribe.thrift
