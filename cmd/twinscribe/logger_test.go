package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"go.uber.org/zap"

	"twinscribe/conf"
)

func TestARecordIsALineThatSteersNoTerminal(t *testing.T) {
	const odd = "web\n2026-01-01T00:00:00Z\terror\tforged \x1b[31m \u009b31m \u202e \u2028 \x7f \ufeff \U000e0001 \xff café"
	for _, format := range []string{"console", "json"} {
		cfg, err := conf.Embedded(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Log.Level, cfg.Log.Format = "info", format
		var out bytes.Buffer
		log, err := newLogger(cfg, zap.NewAtomicLevel(), &out)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("a message with "+odd, zap.String("category", odd))
		line, rest, _ := strings.Cut(out.String(), "\n")
		if rest != "" || strings.IndexFunc(line, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) && r != 0xfffd }) >= 0 || !strings.Contains(line, "café") {
			t.Errorf("%s: %q", format, out.String())
		}
		var record struct{ Category string }
		if format == "json" {
			if err := json.Unmarshal([]byte(line), &record); err != nil || record.Category != strings.ToValidUTF8(odd, "\ufffd") {
				t.Errorf("%q, %v", record.Category, err)
			}
		}
	}
}
