package conf

import (
	_ "embed"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"time"
)

// Default is what holds where a file says nothing. It has no clusters and no
// categories, and is not valid without the latter.
func Default() Config {
	return Config{
		Listen:   Listen{Thrift: ":1463", HTTP: "127.0.0.1:14630"},
		Ack:      "stored",
		State:    "/var/lib/twinscribe",
		Unrouted: "keep",
		Limits: Limits{
			Connections: 10_000,
			Frame:       16 * MiB,
			FrameMemory: 512 * MiB,
			Entries:     100_000,
			Message:     8 * MiB,
			Memory:      512 * MiB,
			Queue:       64 * MiB,
			QueueAdmits: QueueAdmitsFits,
			Categories:  4096,
		},
		Timeouts: Timeouts{
			Ack:   10 * time.Second,
			Write: 2 * time.Second,
			Stop:  20 * time.Second,
			Frame: 10 * time.Second,
			Idle:  5 * time.Minute,
			Reply: 5 * time.Second,
		},
		Queue: Queue{MaxBatch: 4 * MiB, BatchBytes: 256 * KiB, BatchWait: 5 * time.Millisecond},
		Buffer: Buffer{
			MaxBytes:    10 * GiB,
			Segment:     64 * MiB,
			Sync:        "group",
			DeadLetters: GiB,
			Unrouted:    GiB,
			Replay:      "never",
			Keep:        10 * time.Minute,
		},
		Log:       Log{Level: "info", Format: "console"},
		VisibleIn: time.Minute,
		Seals:     12,
	}
}

// elementDefault is what holds in a struct that stands in a list or behind a
// pointer, where a file says nothing.
func elementDefault(t reflect.Type) reflect.Value {
	switch t {
	case reflect.TypeFor[Cluster]():
		return reflect.ValueOf(Cluster{
			Probe:  Probe{Every: time.Second, HoldOff: 15 * time.Second, HoldMax: 15 * time.Minute},
			Limits: ClusterLimits{OpenFiles: 1000, BlockStarts: 32, Appends: 64},
		})
	case reflect.TypeFor[HDFS]():
		return reflect.ValueOf(HDFS{
			User:        "scribe",
			Root:        "/logs",
			Sync:        "hflush",
			NodeTimeout: 500 * time.Millisecond,
			Connect:     1500 * time.Millisecond,
			RPC:         2 * time.Second,
		})
	case reflect.TypeFor[Failover]():
		return reflect.ValueOf(Failover{Prefer: "none"})
	case reflect.TypeFor[Retry]():
		return reflect.ValueOf(Retry{Interval: 5 * time.Minute, Range: time.Minute, Min: 5 * time.Second, Max: 100 * time.Second, Offset: 20 * time.Second})
	case reflect.TypeFor[Network]():
		return reflect.ValueOf(Network{Timeout: 15 * time.Second, BatchIDs: true})
	case reflect.TypeFor[Bucket]():
		return reflect.ValueOf(Bucket{By: "key_hash", Delimiter: ':'})
	case reflect.TypeFor[BufferPlace]():
		return reflect.ValueOf(BufferPlace{Order: "keep", LiveBelow: 75})
	case reflect.TypeFor[Framed]():
		return reflect.ValueOf(Framed{Form: "one"})
	case reflect.TypeFor[ScribeNames]():
		return reflect.ValueOf(scribeNames)
	case reflect.TypeFor[ScribeFiles]():
		return reflect.ValueOf(ScribeFiles{ScribeNames: scribeNames, MaxSize: 1_000_000_000, MaxWriteSize: 1_000_000})
	case reflect.TypeFor[Files]():
		return reflect.ValueOf(Files{Partition: "hour", MaxSize: 96 * MiB, Idle: 10 * time.Minute})
	}
	return reflect.Zero(t)
}

// scribeNames are Scribe's own defaults.
var scribeNames = ScribeNames{RotatePeriod: "never", RotateHour: 1, RotateMinute: 15, Link: true}

//go:embed embedded.yaml
var embedded []byte

// embeddedData is the data folder in embedded.yaml.
const embeddedData = "twinscribe-data"

// Embedded is the configuration without a file, embedded.yaml: two local
// directories as clusters n1 and n2 and a buffer, all below the folder data, all
// on loopback.
func Embedded(data string) (*Config, error) {
	if data == "" {
		return nil, errors.New("the data folder has no name")
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return nil, fmt.Errorf("the data folder: %w", err)
	}
	c, _, err := LoadBytes("embedded.yaml", embedded)
	if err != nil {
		return nil, err
	}
	c.State = below(data, c.State)
	c.Buffer.Path = below(data, c.Buffer.Path)
	for i := range c.Clusters {
		c.Clusters[i].Dir.Path = below(data, c.Clusters[i].Dir.Path)
	}
	return c, nil
}

func below(data, path string) string {
	return filepath.Join(data, strings.TrimPrefix(path, embeddedData))
}
