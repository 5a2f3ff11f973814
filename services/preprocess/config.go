package preprocess

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

// Config is the service's configuration. Start from Default.
type Config struct {
	// Instance names this replica in ledger records and logs; unique among the replicas.
	Instance string `json:"instance" yaml:"instance"`
	// Workers is how many frames are at work at the same time; 0 is one for each CPU.
	Workers int `json:"workers" yaml:"workers"`
	// MaxAttempts is how often a frame is delivered before it is quarantined.
	MaxAttempts int `json:"max_attempts" yaml:"max_attempts"`
	// Timeout bounds the work on one frame.
	Timeout time.Duration `json:"timeout" yaml:"timeout"`
	// DrainTimeout bounds how long a stop waits for frames at work.
	DrainTimeout time.Duration `json:"drain_timeout" yaml:"drain_timeout"`
}

// Default is a configuration that works as it is.
func Default() Config {
	return Config{
		Instance:     "preprocess-1",
		MaxAttempts:  4,
		Timeout:      5 * time.Second,
		DrainTimeout: 10 * time.Second,
	}
}

const maxWorkers = 256

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	if err := streams.CheckToken(c.Instance); err != nil {
		errs = append(errs, fmt.Errorf("instance: %w", err))
	}
	if c.Workers < 0 || c.Workers > maxWorkers {
		errs = append(errs, fmt.Errorf("workers: %d: write 1 to %d, or 0 for one per CPU", c.Workers, maxWorkers))
	}
	if c.MaxAttempts < 1 {
		errs = append(errs, fmt.Errorf("max_attempts: %d: write 1 or more", c.MaxAttempts))
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: %v: write a positive duration", c.Timeout))
	}
	if c.DrainTimeout <= 0 {
		errs = append(errs, fmt.Errorf("drain_timeout: %v: write a positive duration", c.DrainTimeout))
	}
	return errors.Join(errs...)
}

func (c Config) workers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return runtime.GOMAXPROCS(0)
}
