package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"twinscribe/store/cluster"
)

// RemoteError is an exception that a NameNode answered. errors.Is finds what
// package cluster promises of it: fs.ErrNotExist, fs.ErrExist,
// fs.ErrPermission or cluster.ErrUnavailable; an exception that is about the
// path only (quota, lease) is none of these.
type RemoteError struct {
	Method  string // of the protocol
	Class   string // of the exception, with its Java package
	Message string // often with a stack trace behind its first line
}

func (e *RemoteError) Error() string {
	first, _, _ := strings.Cut(e.Message, "\n")
	return e.Method + ": " + e.name() + ": " + first
}

// name is the class without its package.
func (e *RemoteError) name() string { return e.Class[strings.LastIndexByte(e.Class, '.')+1:] }

// Is implements what errors.Is asks.
func (e *RemoteError) Is(target error) bool { return target == e.meaning() }

// meaning sorts every exception that a NameNode is known to answer to one of
// our calls. nil: about the path, none of the package's sentinels.
func (e *RemoteError) meaning() error {
	switch e.name() {
	case "FileNotFoundException":
		return fs.ErrNotExist
	case "FileAlreadyExistsException":
		return fs.ErrExist
	case "AlreadyBeingCreatedException": // at create: there is a file, open by somebody
		if e.Method == "create" {
			return fs.ErrExist
		}
	case "AccessControlException", "AuthorizationException":
		return fs.ErrPermission
	case "SafeModeException", // takes no changes, for now
		"StandbyException", "ObserverRetryOnActiveException", // not the active one of a pair
		"RetriableException", // starting, or too busy
		"RpcNoSuchProtocolException":
		return cluster.ErrUnavailable
	case "IOException":
		if strings.Contains(e.Message, noNodes) {
			return cluster.ErrUnavailable
		}
	}
	return nil
}

// noNodes stands in the IOException of an addBlock for which the NameNode finds
// too few DataNodes: "could only be written to 0 of the 1 minReplication nodes".
const noNodes = "could only be written to"

// isClass says whether err is an exception of that class.
func isClass(err error, name string) bool {
	var r *RemoteError
	return errors.As(err, &r) && r.name() == name
}

var (
	errAborted = errors.New("the file was aborted")
	errClosed  = errors.New("the cluster is closed")
	errSealed  = errors.New("the file is sealed")
	errSilent  = errors.New("no answer")
	errBroken  = errors.New("connection broken")

	errNoSpare   = errors.New("none to spare")
	errAllSilent = fmt.Errorf("none of the pipeline's %w answers", errNodes)
	errKnown     = errors.New("found dead by others")
	errTorn      = errors.New("the pipeline is gone")

	errNodes   = errors.New("DataNodes")
	errCrowded = errors.New("all places are taken")
	errDoubt   = errors.New("while the cluster is in doubt")
)

// late is over of a wait for DataNodes.
func late(ctx context.Context, what string, ns []node) error {
	if ctx.Err() == nil {
		return nil
	}
	names := make([]string, len(ns))
	for i, n := range ns {
		names[i] = n.addr
	}
	return overAt(ctx, fmt.Errorf("%s %w %s", what, errNodes, strings.Join(names, ", ")))
}

// crowded marks err as met while waiting for a place, which says nothing of the
// cluster.
func crowded(err error) error { return fmt.Errorf("%w: %w", errCrowded, err) }

// unavailable marks err as the whole cluster's.
func unavailable(err error) error {
	if err == nil || errors.Is(err, cluster.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
}

// over is the error of an operation whose ctx has ended while it did what, nil
// if it has not. A deadline that passed is the cluster's fault; a caller that
// went away is not.
func over(ctx context.Context, what string) error {
	if ctx.Err() == nil {
		return nil
	}
	return overAt(ctx, errors.New(what))
}

// overAt is over where an error says what the operation met last.
func overAt(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, cause):
	case errors.Is(cause, context.DeadlineExceeded):
		err = unavailable(fmt.Errorf("%w: %w", err, cause))
	default: // what it met does not count
		err = fmt.Errorf("%v: %w", err, cause)
	}
	return err
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// A nodeError says which DataNodes of a pipeline failed.
type nodeError struct {
	nodes []int // their places in the pipeline, in order
	why   proof
	err   error
}

// failedNode is the error of one node.
func failedNode(place int, why proof, err error) error {
	return &nodeError{nodes: []int{place}, why: why, err: err}
}

func (e *nodeError) Error() string {
	return fmt.Sprintf("pipeline node %s: %v", strings.Trim(fmt.Sprint(e.nodes), "[]"), e.err)
}
func (e *nodeError) Unwrap() error { return e.err }

// Is says that every nodeError is about DataNodes.
func (e *nodeError) Is(target error) bool { return target == errNodes }

// A stopError ends an Append: there is nothing left to be tried.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }
