package thrift

// unread walks over a frame for which there is no memory. Its call is refused,
// but only who knows that it is a call knows that a frame begins behind it: a
// client whose lengths are wrong could have a text of somebody else's taken
// for the next call. So bytes that are no call end the connection here too.
//
// It takes what the decoder takes: first what of the frame's body is in memory,
// then what arrives.
type unread struct {
	conn    *conn
	known   []byte // the beginning of what is left of the frame
	later   int    // how many bytes arrive after it
	at      int    // in the body
	scratch [16]byte
	buffer  *[]byte // that known lies in, or nil; given back before anything is waited for
}

func (u *unread) giveBack() {
	if u.buffer != nil {
		u.conn.server.memory.put(u.buffer)
		u.buffer = nil
	}
}

// head copies the longest header that there can be to the connection's head.
func (u *unread) head() error {
	head := u.conn.head[:]
	have := copy(head, u.known)
	if have == len(head) {
		return nil
	}
	u.known = head[:have]
	u.giveBack()
	if err := u.conn.need(len(head) - have); err != nil {
		return err
	}
	copy(head[have:], u.conn.in[u.conn.start:u.conn.end])
	return nil
}

func (u *unread) left() int { return len(u.known) + u.later }

// take gives the next n <= len(scratch) bytes, valid until the next call.
func (u *unread) take(n int) ([]byte, error) {
	if n > u.left() {
		return nil, short(u.at, n, u.left())
	}
	u.at += n
	if n <= len(u.known) {
		b := u.known[:n]
		u.known = u.known[n:]
		return b, nil
	}
	b := u.scratch[:n]
	have := copy(b, u.known)
	if err := u.arrive(n - have); err != nil {
		return nil, err
	}
	copy(b[have:], u.conn.in[u.conn.start:])
	u.conn.start += n - have
	u.later -= n - have
	return b, nil
}

// arrive waits for n bytes in the connection's own buffer.
func (u *unread) arrive(n int) error {
	u.known = nil
	u.giveBack()
	return u.conn.need(n)
}

// pass walks over n bytes.
func (u *unread) pass(n int) error {
	if n > u.left() {
		return short(u.at, n, u.left())
	}
	u.at += n
	k := min(n, len(u.known))
	u.known = u.known[k:]
	for n -= k; n > 0; n -= k {
		if err := u.arrive(1); err != nil {
			return err
		}
		k = min(n, u.conn.end-u.conn.start)
		u.conn.start += k
		u.later -= k
	}
	return nil
}

func (u *unread) size() (int, error) {
	b, err := u.take(4)
	if err != nil {
		return 0, err
	}
	n := be32(b)
	if n > 0x7fffffff {
		return 0, bad(badLength, "at byte %d: length %d is negative", u.at-4, int32(n))
	}
	if uint(n) > uint(u.left()) {
		return 0, short(u.at, int(n), u.left())
	}
	return int(n), nil
}

func (u *unread) str() error {
	n, err := u.size()
	if err != nil {
		return err
	}
	return u.pass(n)
}

// fields calls f for each field of a struct. f walks over the value.
func (u *unread) fields(f func(typ byte, id int16) error) error {
	for {
		b, err := u.take(1)
		if err != nil {
			return err
		}
		typ := b[0]
		if typ == typeStop {
			return nil
		}
		if b, err = u.take(2); err != nil {
			return err
		}
		if err := f(typ, int16(be16(b))); err != nil {
			return err
		}
	}
}

// skip is skip.
func (u *unread) skip(typ byte, depth int) error {
	if w := fixed(typ); w > 0 {
		return u.pass(w)
	}
	if depth == 0 {
		return bad(badDepth, "at byte %d: values nested more than %d deep", u.at, maxDepth)
	}
	switch typ {
	case typeString:
		return u.str()
	case typeStruct:
		return u.fields(func(typ byte, _ int16) error { return u.skip(typ, depth-1) })
	case typeList, typeSet:
		return u.elements(1, depth)
	case typeMap:
		return u.elements(2, depth)
	}
	return bad(badType, "at byte %d: there is no type %d", u.at, typ)
}

func (u *unread) elements(values, depth int) error {
	b, err := u.take(values)
	if err != nil {
		return err
	}
	types := [2]byte{b[0], b[values-1]}
	n, err := u.size()
	if err != nil {
		return err
	}
	if w := fixed(types[0]); w > 0 && values == 1 {
		if n > u.left()/w {
			return bad(badLength, "at byte %d: %d elements of %d bytes, %d left in the frame", u.at, n, w, u.left())
		}
		return u.pass(n * w)
	}
	for range n {
		for _, typ := range types[:values] {
			if err := u.skip(typ, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// call walks over the arguments of a call, to the frame's end.
func (u *unread) call(log bool, maxEntries int) error {
	err := u.fields(func(typ byte, id int16) error {
		switch {
		case log && id == 1:
			return u.messages(typ, maxEntries)
		case log && id == 2:
			return u.batchID(typ)
		case log:
			return u.skip(typ, maxDepth)
		}
		return u.skip(typ, maxDepth-1)
	})
	if err == nil && u.left() > 0 {
		err = bad(badTrailing, "at byte %d: the call ends, %d bytes are left in the frame", u.at, u.left())
	}
	return err
}

func (u *unread) messages(typ byte, maxEntries int) error {
	if typ != typeList {
		return bad(badType, "at byte %d: messages has type %d, want a list", u.at, typ)
	}
	b, err := u.take(1)
	if err != nil {
		return err
	}
	element := b[0]
	n, err := u.size()
	switch {
	case err != nil:
		return err
	case n > maxEntries:
		return bad(badEntries, "%d entries, at most %d are taken", n, maxEntries)
	case element != typeStruct && n > 0:
		return bad(badType, "at byte %d: a list of type %d, want a list of entries", u.at, element)
	}
	for range n {
		if err := u.fields(u.entry); err != nil {
			return err
		}
	}
	return nil
}

// entry walks over a field of an entry.
func (u *unread) entry(typ byte, id int16) error {
	switch {
	case id != 1 && id != 2:
		return u.skip(typ, maxDepth)
	case typ != typeString:
		return bad(badType, "at byte %d: field %d of an entry has type %d, want a string", u.at, id, typ)
	}
	return u.str()
}

func (u *unread) batchID(typ byte) error {
	if typ != typeStruct {
		return bad(badType, "at byte %d: batch has type %d, want a struct", u.at, typ)
	}
	producer := 0
	err := u.fields(func(typ byte, id int16) (err error) {
		switch {
		case id == 1 && typ != typeString:
			return bad(badType, "at byte %d: the producer has type %d, want a string", u.at, typ)
		case (id == 2 || id == 3) && typ != typeI64:
			return bad(badType, "at byte %d: a number of a batch id has type %d, want i64", u.at, typ)
		case id == 1:
			if producer, err = u.size(); err == nil {
				err = u.pass(producer)
			}
			return err
		}
		return u.skip(typ, maxDepth)
	})
	if err == nil && producer > maxProducer {
		err = bad(badProducer, "a producer of %d bytes, at most %d are taken", producer, maxProducer)
	}
	return err
}
