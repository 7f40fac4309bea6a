package thrift

const (
	// The first three bytes of the two fields of a LogEntry: type and id.
	fieldCategory = typeString<<16 | 1
	fieldMessage  = typeString<<16 | 2

	// maxProducer bounds the producer of a batch id, which is kept with every
	// batch: a longer one is a mistake of the client.
	maxProducer = 256

	// entryBytes is what one Entry costs in memory, for the accounts.
	entryBytes = 48

	// keptEntries bounds the slices of entries that are kept for the next call.
	keptEntries = 16384
)

// An account says whether a call may use so many bytes more.
type account interface{ reserve(bytes int) bool }

// A decoder walks over the arguments of Log in place. It is used for one call
// after another and keeps the slice of entries between them.
type decoder struct {
	maxEntries int
	account    account

	entries  []Entry
	used     int // how many of entries the last call set at most
	batch    BatchID
	producer string // of the last call on the connection, so that it is not made anew
	call     Call
	busy     bool // there is no room for the entries
}

// decode reads the arguments of Log, which begin at b[at:] and end with b. The
// call lies in b and in the decoder, and is valid until the next decode.
func (d *decoder) decode(b []byte, at int) (*Call, error) {
	d.call, d.busy = Call{}, false
	for {
		typ, id, next, err := field(b, at)
		if err != nil {
			return nil, err
		}
		at = next
		switch {
		case typ == typeStop:
			if at != len(b) {
				return nil, bad(badTrailing, "at byte %d: the call ends, %d bytes are left in the frame", at, len(b)-at)
			}
			if d.busy {
				return nil, errBusy
			}
			return &d.call, nil
		case id == 1:
			at, err = d.messages(b, at, typ)
		case id == 2:
			at, err = d.batchID(b, at, typ)
		default:
			at, err = skip(b, at, typ, maxDepth)
		}
		if err != nil {
			return nil, err
		}
	}
}

// messages reads the list of entries. Where a call has two the last one counts.
func (d *decoder) messages(b []byte, at int, typ byte) (int, error) {
	if typ != typeList {
		return at, bad(badType, "at byte %d: messages has type %d, want a list", at, typ)
	}
	if at >= len(b) {
		return at, short(at, 1, 0)
	}
	element := b[at]
	n, at, err := size(b, at+1)
	if err != nil {
		return at, err
	}
	if n > d.maxEntries {
		return at, bad(badEntries, "%d entries, at most %d are taken", n, d.maxEntries)
	}
	if element != typeStruct && n > 0 {
		return at, bad(badType, "at byte %d: a list of type %d, want a list of entries", at, element)
	}
	if !d.account.reserve(n * entryBytes) {
		// The call is refused, but it is walked over: behind bytes that are no
		// call nobody knows where the next one begins.
		d.busy = true
		var e Entry
		for range n {
			if at, err = decodeEntry(b, at, &e); err != nil {
				break
			}
		}
		return at, err
	}
	if n > cap(d.entries) {
		d.entries = make([]Entry, n)
	}
	d.entries = d.entries[:n]
	d.used = max(d.used, n)
	at, d.call.Bytes, err = decodeEntries(b, at, d.entries)
	d.call.Entries = d.entries
	return at, err
}

// decodeEntries fills es from b[at:] and adds up the bytes of the messages.
func decodeEntries(b []byte, at int, es []Entry) (next, total int, err error) {
	for i := range es {
		e := &es[i]
		// The form that every client sends: category, message, stop. A field's
		// type, id and length are seven bytes, and read at once. Anything else
		// goes the long way.
		if r := b[at:]; len(r) >= 15 {
			head := be64(r)
			if n := uint(uint32(head >> 8)); head>>40 == fieldCategory && n <= uint(len(r)-15) {
				m := r[7+n:]
				head = be64(m)
				k := uint(uint32(head >> 8))
				if head>>40 == fieldMessage && k <= uint(len(m)-8) && m[7+k] == typeStop {
					e.Category = r[7 : 7+n : 7+n]
					e.Message = m[7 : 7+k : 7+k]
					at += 15 + int(n) + int(k)
					total += int(k)
					continue
				}
			}
		}
		if at, err = decodeEntry(b, at, e); err != nil {
			return at, 0, err
		}
		total += len(e.Message)
	}
	return at, total, nil
}

// decodeEntry reads one entry of any form: fields in any order, missing,
// unknown, twice (the last one counts).
func decodeEntry(b []byte, at int, e *Entry) (int, error) {
	*e = Entry{}
	for {
		typ, id, next, err := field(b, at)
		if err != nil || typ == typeStop {
			return next, err
		}
		at = next
		switch {
		case id != 1 && id != 2:
			at, err = skip(b, at, typ, maxDepth)
		case typ != typeString:
			err = bad(badType, "at byte %d: field %d of an entry has type %d, want a string", at, id, typ)
		case id == 1:
			e.Category, at, err = str(b, at)
		default:
			e.Message, at, err = str(b, at)
		}
		if err != nil {
			return at, err
		}
	}
}

// batchID reads the second argument. One without a producer is none.
func (d *decoder) batchID(b []byte, at int, typ byte) (int, error) {
	if typ != typeStruct {
		return at, bad(badType, "at byte %d: batch has type %d, want a struct", at, typ)
	}
	d.batch, d.call.Batch = BatchID{}, nil
	var producer []byte
	for {
		typ, id, next, err := field(b, at)
		if err != nil {
			return next, err
		}
		if typ == typeStop {
			return next, d.setProducer(producer)
		}
		at = next
		switch id {
		case 1:
			if typ != typeString {
				return at, bad(badType, "at byte %d: the producer has type %d, want a string", at, typ)
			}
			producer, at, err = str(b, at)
		case 2:
			d.batch.Epoch, at, err = number(b, at, typ)
		case 3:
			d.batch.Sequence, at, err = number(b, at, typ)
		default:
			at, err = skip(b, at, typ, maxDepth)
		}
		if err != nil {
			return at, err
		}
	}
}

func (d *decoder) setProducer(p []byte) error {
	if len(p) > maxProducer {
		return bad(badProducer, "a producer of %d bytes, at most %d are taken", len(p), maxProducer)
	}
	if len(p) == 0 {
		return nil
	}
	if d.producer != string(p) {
		d.producer = string(p)
	}
	d.batch.Producer = d.producer
	d.call.Batch = &d.batch
	return nil
}

// number reads an i64 as the unsigned number that a batch id means by it.
func number(b []byte, at int, typ byte) (uint64, int, error) {
	if typ != typeI64 {
		return 0, at, bad(badType, "at byte %d: a number of a batch id has type %d, want i64", at, typ)
	}
	if len(b)-at < 8 {
		return 0, at, short(at, 8, len(b)-at)
	}
	return be64(b[at:]), at + 8, nil
}

// clear lets go of the frame that the last call lay in, and of a slice of
// entries that is too large to keep.
func (d *decoder) clear() {
	if cap(d.entries) > keptEntries {
		d.entries = nil
	} else {
		clear(d.entries[:min(d.used, cap(d.entries))])
		d.entries = d.entries[:0]
	}
	d.used = 0
	d.call, d.batch = Call{}, BatchID{}
}
