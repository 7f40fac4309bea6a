package daemon

import (
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
