package thrift

import "fmt"

// Exception is how a server answers a call that it can do nothing with.
type Exception struct {
	Type int32 // Thrift's number: 1 unknown method, 6 internal error, 7 protocol error, ...
	Text string
}

func (e *Exception) Error() string {
	return fmt.Sprintf("the server answers with exception %d: %s", e.Type, e.Text)
}

// DecodeLogReply reads the answer to a Log call, a frame without its length, in
// the old or the strict form. The error is an *Exception if the server sent
// one; any other says that the bytes are no answer.
func DecodeLogReply(b []byte) (seq int32, r Result, err error) {
	h, err := parseHeader(b)
	if err != nil {
		return 0, 0, err
	}
	if string(h.name) != "Log" || h.kind != messageReply && h.kind != messageException {
		return h.seq, 0, bad(badMessage, "message %q of kind %d, want the reply to Log", h.name, h.kind)
	}
	if h.kind == messageException {
		e, err := decodeException(b, h.args)
		if err != nil {
			return h.seq, 0, err
		}
		return h.seq, 0, e
	}
	found := false
	at, err := fields(b, h.args, func(typ byte, id int16, at int) (int, error) {
		if id == 0 && typ == typeI32 && len(b)-at >= 4 {
			r, found = Result(be32(b[at:])), true
		}
		return skip(b, at, typ, maxDepth)
	})
	switch {
	case err != nil:
		return h.seq, 0, err
	case at != len(b) || !found:
		return h.seq, 0, bad(badMessage, "a reply to Log without a result")
	case r != OK && r != TryLater:
		return h.seq, 0, bad(badMessage, "a reply to Log with result %d", r)
	}
	return h.seq, r, nil
}

func decodeException(b []byte, at int) (*Exception, error) {
	e := &Exception{}
	_, err := fields(b, at, func(typ byte, id int16, at int) (int, error) {
		switch {
		case id == 1 && typ == typeString:
			s, next, err := str(b, at)
			e.Text = string(s)
			return next, err
		case id == 2 && typ == typeI32 && len(b)-at >= 4:
			e.Type = int32(be32(b[at:]))
		}
		return skip(b, at, typ, maxDepth)
	})
	return e, err
}

// fields walks over a struct at b[at:]; each reads or skips one value and says
// where it ends.
func fields(b []byte, at int, each func(typ byte, id int16, at int) (int, error)) (int, error) {
	for {
		typ, id, next, err := field(b, at)
		if err != nil || typ == typeStop {
			return next, err
		}
		if at, err = each(typ, id, next); err != nil {
			return at, err
		}
	}
}
