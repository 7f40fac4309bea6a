//go:build integration

package dropin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// exchange sends bytes as they are and wants these back, to the byte.
func exchange(t *testing.T, s *lab.Server, what, request, reply string) {
	t.Helper()
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(reply))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != reply {
		t.Errorf("%s: %v, reply %q, want %q", what, err, got[:n], reply)
		return
	}
	// the connection is open and nothing is left in it
	probe := "\x00\x00\x00\x11\x00\x00\x00\x07getName\x01\x00\x00\x00\x63\x00"
	want := "\x00\x00\x00\x1e\x00\x00\x00\x07getName\x02\x00\x00\x00\x63\x0b\x00\x00\x00\x00\x00\x06Scribe\x00"
	if _, err := io.WriteString(c, probe); err != nil {
		t.Fatal(err)
	}
	got = make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("%s: the call behind it: %v, %q, want %q", what, err, got, want)
	}
}

// logOK is the whole reply to a Log call of sequence number 0, as JVM log handlers compare it.
const logOK = "\x00\x00\x00\x14\x00\x00\x00\x03Log\x02\x00\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00"

// TestReplyConstant: the handlers send an old-form Log of no messages first, to learn which reply
// means OK, and compare the whole reply of each call with it.
func TestReplyConstant(t *testing.T) {
	t.Parallel()
	s := nulls(t)
	probe := "\x00\x00\x00\x15\x00\x00\x00\x03Log\x01\x00\x00\x00\x00\x0f\x00\x01\x0c\x00\x00\x00\x00\x00"
	exchange(t, s, "the probe", probe, logOK)
	call := "\x00\x00\x00\x26\x00\x00\x00\x03Log\x01\x00\x00\x00\x00\x0f\x00\x01\x0c\x00\x00\x00\x01" +
		"\x0b\x00\x01\x00\x00\x00\x01c\x0b\x00\x02\x00\x00\x00\x01m\x00\x00"
	exchange(t, s, "a call", call, logOK)
	strict := "\x00\x00\x00\x29\x80\x01\x00\x01\x00\x00\x00\x03Log\x00\x00\x00\x00\x0f\x00\x01\x0c\x00\x00\x00\x01" +
		"\x0b\x00\x01\x00\x00\x00\x01c\x0b\x00\x02\x00\x00\x00\x01m\x00\x00"
	exchange(t, s, "a strict call", strict, logOK)
}

// replies are all methods with the bytes of a frame, behind the header and with the value.
var replies = []struct {
	method, arguments string
	reply             string // behind the header
}{
	{"Log", "\x0f\x00\x01\x0c\x00\x00\x00\x00", "\x08\x00\x00\x00\x00\x00\x00\x00"},
	{"getName", "", "\x0b\x00\x00\x00\x00\x00\x06Scribe\x00"},
	{"getStatus", "", "\x08\x00\x00\x00\x00\x00\x02\x00"},
	{"getStatusDetails", "", "\x0b\x00\x00\x00\x00\x00\x00\x00"},
	{"getCounters", "", "\x0d\x00\x00\x0b\x0a\x00\x00\x00\x00\x00"},
	{"getCounter", "\x0b\x00\x01\x00\x00\x00\x04none", "\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
	{"setOption", "\x0b\x00\x01\x00\x00\x00\x01k\x0b\x00\x02\x00\x00\x00\x01v", "\x00"},
	{"getOption", "\x0b\x00\x01\x00\x00\x00\x01k", "\x0b\x00\x00\x00\x00\x00\x01v\x00"},
	{"getOptions", "", "\x0d\x00\x00\x0b\x0b\x00\x00\x00\x01\x00\x00\x00\x01k\x00\x00\x00\x01v\x00"},
	{"getOption", "\x0b\x00\x01\x00\x00\x00\x01l", "\x0b\x00\x00\x00\x00\x00\x00\x00"},
	{"getCpuProfile", "\x08\x00\x01\x00\x00\x00\x01", "\x0b\x00\x00\x00\x00\x00\x00\x00"},
}

// TestReplies: every method, asked in the old and in the strict form, is answered in the old form,
// to the byte, with the request's sequence number.
func TestReplies(t *testing.T) {
	t.Parallel()
	s := nulls(t)
	for i, r := range replies {
		seq := string([]byte{0xfe, 0, 1, byte(i)})
		name := string(lab.Int32(len(r.method))) + r.method
		reply := string(lab.Framed([]byte(name + "\x02" + seq + r.reply)))
		exchange(t, s, r.method+", old", string(lab.Framed([]byte(name+"\x01"+seq+r.arguments+"\x00"))), reply)
		exchange(t, s, r.method+", strict", string(lab.Framed([]byte("\x80\x01\x00\x01"+name+seq+r.arguments+"\x00"))), reply)
	}
	// an unknown method: application exception 1 with this text
	text := "Invalid method name: 'frob'"
	exception := "\x0b\x00\x01" + string(lab.Int32(len(text))) + text + "\x08\x00\x02\x00\x00\x00\x01\x00"
	frob := "\x00\x00\x00\x04frob"
	reply := string(lab.Framed([]byte(frob + "\x03\x00\x00\x00\x05" + exception)))
	exchange(t, s, "unknown, old", string(lab.Framed([]byte(frob+"\x01\x00\x00\x00\x05\x00"))), reply)
	exchange(t, s, "unknown, strict", string(lab.Framed([]byte("\x80\x01\x00\x01"+frob+"\x00\x00\x00\x05\x00"))), reply)
	// never answered, not even a call of the kind that is
	for _, kind := range []string{"\x01", "\x04"} {
		exchange(t, s, "reinitialize", string(lab.Framed([]byte("\x00\x00\x00\x0creinitialize"+kind+"\x00\x00\x00\x05\x00"))), "")
	}
	since := binary.BigEndian.Uint64(s.Ask("aliveSince"))
	if age := time.Now().Unix() - int64(since); age < 0 || age > 3600 {
		t.Errorf("alive since %d, %d s ago", since, age)
	}
}

// TestK1Wire: pipelined requests are answered in order, each with its own number; fields that the
// server does not know are passed over; a frame that is none closes the connection.
func TestK1Wire(t *testing.T) {
	t.Parallel()
	s := nulls(t)
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const calls = 50
	var all []byte
	for n := range calls {
		body := lab.LogBody(1, entry("k1", "m"))
		body[11] = byte(n) // the last byte of the sequence number
		all = append(all, lab.Framed(body)...)
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(all); err != nil {
		t.Fatal(err)
	}
	for n := range calls {
		answer, err := c.Answer()
		if err != nil || len(answer) != 20 || answer[11] != byte(n) || answer[18] != 0 {
			t.Fatalf("answer %d: %v, %q", n, err, answer)
		}
	}
	counted(t, s, "k1:received good", calls)

	// scribe3's third field of an entry: a map of strings
	metadata := "\x0d\x00\x03\x0b\x0b\x00\x00\x00\x01\x00\x00\x00\x01a\x00\x00\x00\x01b"
	body := append(lab.OldHeader("Log", 1), lab.EntryList(1)...)
	body = append(append(append(body, lab.TextField(1, "k1")...), lab.TextField(2, "m")...), metadata...)
	if answer, err := c.Frame(10*time.Second, body, []byte{0, 0}); err != nil || answer[18] != 0 {
		t.Fatalf("an entry with metadata: %v, %q", err, answer)
	}
	counted(t, s, "k1:received good", calls+1)

	unframed, err := lab.Dial(s.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer unframed.Close()
	unframed.SetDeadline(time.Now().Add(10 * time.Second))
	unframed.Write(append(lab.StrictHeader("Log", 1), lab.EntryList(0)...))
	if _, err := unframed.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("a client without frames: %v, want the end of the connection", err)
	}
}

// TestK2Results: the list is taken whole or refused whole. No messages and messages without a
// category are OK.
func TestK2Results(t *testing.T) {
	t.Parallel()
	s := nulls(t, "max_msg_per_second=100")
	log(t, s)
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	log(t, s, entry("", "blank"), entry("k2", "good"))
	noCategory := append(lab.OldHeader("Log", 1), lab.EntryList(2)...)
	noCategory = append(append(noCategory, lab.TextField(2, "no category")...), 0)
	noCategory = append(append(noCategory, lab.TextField(1, "k2")...), 0, 0) // no message
	if answer, err := c.Frame(10*time.Second, noCategory); err != nil || !bytes.Equal(answer[15:], []byte{0, 0, 0, 0, 0}) {
		t.Fatalf("missing fields: %v, %q", err, answer)
	}
	counted(t, s, "scribe_overall:received blank category", 2)
	counted(t, s, "k2:received good", 2)
	// nothing of what is refused arrives: each call of 40 is taken whole or not at all
	call := make([]lab.Entry, 40)
	for i := range call {
		call[i] = entry("atomic", "m")
	}
	taken, denied := 0, 0
	for denied == 0 && taken < 10_000 {
		ok, err := c.Log(call, 10*time.Second)
		switch {
		case err != nil:
			t.Fatal(err)
		case ok:
			taken++
		default:
			denied++
		}
	}
	if denied == 0 {
		t.Fatalf("%d calls of 40 messages, and none was refused at 100 messages a second", taken)
	}
	counted(t, s, "atomic:received good", int64(40*taken))
	counted(t, s, "scribe_overall:denied for rate", int64(denied))
}
