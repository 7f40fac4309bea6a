package daemon

import (
	"bytes"
	"log"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Of the same line so many are logged in so long: a fault that meets a thousand
// chains at once tells itself a thousand times. How often it happened is in the
// metrics.
const (
	sparingly = 10 * time.Second
	sameLines = 20
)

func sparing(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, sparingly, sameLines, 0)
	}))
}

// errorLog is the log of a part of the HTTP side that knows only the standard
// one. What it says holds clients' addresses, so it is a field: as the message
// no two lines would be the same.
func errorLog(l *zap.Logger, message string) *log.Logger {
	return log.New(fieldOf{sparing(l), message}, "", 0)
}

type fieldOf struct {
	log     *zap.Logger
	message string
}

func (f fieldOf) Write(p []byte) (int, error) {
	f.log.Warn(f.message, zap.String("error", string(bytes.TrimSpace(p))))
	return len(p), nil
}
