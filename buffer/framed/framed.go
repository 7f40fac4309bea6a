// Package framed reads the buffer files that Scribe's buffer stores leave on a
// local disk, so that an upgrade loses none of the messages in them:
//
//	files, passed, err := framed.List(fsys, "/var/scribe/web", "web")
//	f, size, err := framed.Open(fsys, filepath.Join("/var/scribe/web", files[0].Name))
//	report, err := framed.Scan(f, size, framed.Options{Form: framed.OneFrame}, replay, keepAside)
//
// Such a file has no header and no checksum. It is one frame after another, a
// frame being a length of four bytes, little endian, and as many bytes. Where
// a queue has one category (OneFrame) each message is a frame; where several
// share it (TwoFrames) a frame with the category and a line feed precedes each.
//
// The server that wrote them appends behind a write that a crash or a full
// disk cut off, and takes an empty message for the end of the file. This
// package reads on behind both, and says of every byte whether it belongs to a
// message or to a range that is damaged.
//
// It leaves to others: sending what it reads, keeping damaged ranges aside, and
// deleting files.
package framed

import (
	"fmt"
	"io"
)

// MaxMessage is the longest message there can be, in bytes. The top byte of a
// length is therefore zero, a byte that no text holds: see Scan.
const MaxMessage = 1<<24 - 1

const (
	headerSize = 4
	// topBit is the length from which on the original takes a file for corrupt.
	topBit = 1<<31 - 1
)

// Form says how many frames a message has.
type Form uint8

// The forms. The zero value is for Detect to replace.
const (
	OneFrame  Form = iota + 1 // the message
	TwoFrames                 // the category and a line feed, then the message
)

func (f Form) String() string {
	switch f {
	case OneFrame:
		return "one frame"
	case TwoFrames:
		return "two frames"
	}
	return "unknown form"
}

// A Message is one message of a file.
type Message struct {
	Offset int64 // of its first frame
	// End is the offset behind it. A Scan From there goes on as this one does.
	End      int64
	Category string // without its line feed; none in the form of one frame
	Data     []byte // valid until the function that got it returns
}

// Reason says what is wrong with a range of bytes.
type Reason uint8

// The reasons, each about the first thing in the range.
const (
	Torn       Reason = iota + 1 // other frames begin before it ends, or none where it ends
	Cut                          // the file ends within a frame
	Zeros                        // nothing but zeros: the space of a write that a power cut undid
	TooLarge                     // a whole message, larger than Options.MaxMessage
	BadLength                    // no message has this length
	NoCategory                   // a frame in the place of a category that is none
)

func (r Reason) String() string {
	switch r {
	case Torn:
		return "a torn frame"
	case Cut:
		return "the file ends within a frame"
	case Zeros:
		return "nothing but zeros"
	case TooLarge:
		return "a message that is too large"
	case BadLength:
		return "a length that no message has"
	case NoCategory:
		return "no category where one is due"
	}
	return "unknown"
}

// A Damage is a range of bytes that are in no message.
type Damage struct {
	From, To int64 // offsets; a Scan From To goes on as this one does
	Reason   Reason
}

func (d Damage) String() string { return fmt.Sprintf("bytes %d to %d: %s", d.From, d.To, d.Reason) }

// Options say how a file is read.
type Options struct {
	Form       Form  // 0: what Detect says
	MaxMessage int   // a larger message is damage; 0: MaxMessage, which is also the most
	From       int64 // the offset to begin at: 0, a Message's End or a Damage's To
}

// A Report counts what Scan found.
type Report struct {
	Form     Form  // that the file was read in
	Sure     bool  // it was given, or Detect is sure
	Messages int64 // handed over
	Damages  int64 // handed over
	Damaged  int64 // bytes in them
	End      int64 // behind the last message or damage that was handed over
}

// Scan reads a file of size bytes and calls message for each message and
// damage for each range of bytes that are in none, in the order of the file:
// together they are all bytes from o.From on. It holds one message in memory,
// and windows of fixed size. Errors of r and of the two functions end it and
// are returned, with the report so far.
//
// A length of zero is an empty message. In the form of one frame sixteen in a
// row and more are a damage of zeros, as a power cut leaves them: nobody can
// tell the two, and all that is lost is their number.
//
// Nothing marks a frame. What tells frames from text is that the top byte of a
// length is zero and text holds no zero byte: between the lengths of a file of
// text there is none. A message without one is plain. The rule:
//
//   - A message is believed where the one before it ended, if it hides no
//     frames and what can be a frame, zeros, or the end of the file follows.
//   - It hides frames if it is not plain, and plain messages begin within it
//     that go on, frame by frame, beyond its end, or that end where it ends and
//     have nothing but text before them. Then it is the head of a torn one, and
//     the others are good.
//   - If nothing follows that can be a frame, it is believed where it ends in a
//     line feed, or where the bytes behind it can be what is left of a length.
//     Otherwise its own length is wrong. It is not believed if it begins as
//     text and is not plain: several torn ones look so.
//   - Behind damage reading goes on at the first offset where frames are
//     trusted: where a message is not empty, hides none, and weighs enough
//     together with those behind it. That is a line of text with its line feed,
//     of four bytes and more; or three messages of text; or eight of any
//     content. Where the file ends with them it is a line of two bytes, one
//     message of text, or three of any content. Behind ASCII text that breaks
//     off (twelve bytes, or all there is of a torn message) it is one text of
//     six bytes, or of one where the file ends with it.
//
// In the form of two frames a category counts as a line. Frames are trusted
// only at what looks like a category, as Detect has it, or stands twice at the
// head of the file; of a frame and the next one at that which is more like
// one. A category that a tear parted from its message is told by the lines in
// the places of categories behind it.
//
// So a line that is torn anywhere costs itself and no other, and nothing is
// made up: TestTornFrames cuts at every byte, and has figures for other
// messages. A flipped bit costs the line that it hit. What cannot be told:
//
//   - Good messages that weigh too little are part of the damage, counted and
//     handed over with it. Where the file ends, these are one or two texts of
//     fewer than 12 bytes without a line feed, or binary messages. Between two
//     tears, these are also one or two longer texts without line feeds, and up
//     to seven of any content. Texts are among them only if they stand behind a
//     message that was torn within its length, that is binary, or whose last
//     bytes are not ASCII, or behind zeros; between two tears, also where the
//     first of them has fewer than six bytes.
//   - Of torn messages in a row two now and then make up one, where the length
//     of the first leads to the end of the second.
//   - So it is with torn binary messages and the good ones behind them, and
//     with text without line feeds where a single message follows.
//   - A message that is text and ends in whole frames of lines: these are
//     taken for messages, and what stands before them for torn.
//   - In the form of two frames, lines and categories where messages are single
//     words, or where categories do not look like names.
//   - Bytes that changed, or became zero, within a message.
//   - Empty messages right behind damage: they are part of it.
func Scan(r io.ReaderAt, size int64, o Options, message func(Message) error, damage func(Damage) error) (Report, error) {
	report := Report{Form: o.Form, Sure: true, End: o.From}
	if o.From < 0 || o.From > size {
		return report, fmt.Errorf("begin at %d in a file of %d bytes", o.From, size)
	}
	if o.Form > TwoFrames {
		return report, fmt.Errorf("form %d is none", o.Form)
	}
	if o.Form == 0 {
		var err error
		if report.Form, report.Sure, err = Detect(r, size); err != nil {
			return report, err
		}
	}
	c := &scan{scanner: newScanner(r, size, report.Form, o.MaxMessage), report: report, message: message, damage: damage}
	for at := o.From; at < size; {
		next, err := c.step(at)
		if err != nil {
			return c.report, err
		}
		at = next
	}
	return c.report, c.flush(size)
}

// scan hands over what a scanner finds.
type scan struct {
	*scanner
	report   Report
	message  func(Message) error
	damage   func(Damage) error
	reason   Reason // of the damage that begins at report.End; 0: none does
	category string // the last one
}

// step hands over what stands at an offset, or makes it a part of the damage
// there, and says where to go on.
func (c *scan) step(at int64) (next int64, err error) {
	u := c.parse(at)
	switch {
	case c.believed(u):
		return u.end, c.deliver(u)
	case u.bad == TooLarge:
		if end := c.oversized(u); end > 0 {
			return end, c.reportOversized(u, end)
		}
		u.bad = BadLength
	}
	next = c.resume(at + 1)
	if c.err != nil {
		return at, c.err
	}
	if c.reason == 0 {
		c.reason = u.bad
		if u.bad == 0 || u.bad == Zeros || u.bad == Cut && next < c.size {
			c.reason = Torn // flush says where there are only zeros
		}
	}
	return next, nil
}

func (c *scan) deliver(u unit) error {
	if err := c.flush(u.at); err != nil {
		return err
	}
	m := Message{Offset: u.at, End: u.end}
	if c.form == TwoFrames {
		name, err := c.body.from(u.name.from, u.name.size())
		if err != nil {
			return err
		}
		name = name[:u.name.size()-1]
		if string(name) != c.category {
			c.category = string(name)
		}
		m.Category = c.category
	}
	data, err := c.body.from(u.text.from, u.text.size())
	if err != nil {
		return err
	}
	m.Data = data[:u.text.size():u.text.size()]
	if err := c.message(m); err != nil {
		return err
	}
	c.report.Messages++
	c.report.End = u.end
	return nil
}

// reportOversized reports messages that are too large, one after another from
// u on, each as a damage of its own.
func (c *scan) reportOversized(u unit, end int64) error {
	if err := c.flush(u.at); err != nil {
		return err
	}
	for ; u.bad == TooLarge && u.end <= end; u = c.parse(u.end) {
		if err := c.reportDamage(Damage{From: u.at, To: u.end, Reason: TooLarge}); err != nil {
			return err
		}
	}
	return c.err
}

// flush reports the damage that ends at an offset, if there is one.
func (c *scan) flush(at int64) error {
	if c.err != nil || c.reason == 0 {
		return c.err
	}
	d := Damage{From: c.report.End, To: at, Reason: c.reason}
	if c.find(notZero, d.From, d.To) == d.To {
		d.Reason = Zeros
	}
	if c.err != nil {
		return c.err
	}
	c.reason = 0
	return c.reportDamage(d)
}

func (c *scan) reportDamage(d Damage) error {
	if err := c.damage(d); err != nil {
		return err
	}
	c.report.Damages++
	c.report.Damaged += d.To - d.From
	c.report.End = d.To
	return nil
}
