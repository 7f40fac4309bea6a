package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"twinscribe/conf"
)

func newLogger(cfg *conf.Config, level zap.AtomicLevel, to io.Writer) (*zap.Logger, error) {
	l, err := zapcore.ParseLevel(cfg.Log.Level)
	if err != nil {
		return nil, err
	}
	level.SetLevel(l)
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime = zapcore.ISO8601TimeEncoder
	encoder := zapcore.NewConsoleEncoder(e)
	if cfg.Log.Format == "json" {
		encoder = zapcore.NewJSONEncoder(e)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(singleLine{to})), level)), nil
}

// singleLine writes each record of a log, which comes in one write, as one line
// that steers no terminal, whatever text of a client's stands in it. The
// encoders quote fields, but not all of Unicode, and messages not at all.
type singleLine struct{ w io.Writer }

func (o singleLine) Write(p []byte) (int, error) {
	line, end := strings.CutSuffix(string(p), "\n")
	if strings.IndexFunc(line, steers) < 0 && utf8.ValidString(line) {
		return o.w.Write(p)
	}
	var b strings.Builder
	for _, r := range line { // a byte that is no UTF-8 becomes U+FFFD
		switch {
		case !steers(r):
			b.WriteRune(r)
		case r > 0xffff: // as JSON has it
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if end {
		b.WriteByte('\n')
	}
	if _, err := io.WriteString(o.w, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// steers says whether a rune does something else than to be shown. Tabs
// separate the columns of the console's form.
func steers(r rune) bool { return r != '\t' && r != ' ' && r != utf8.RuneError && !unicode.IsPrint(r) }
