package telemetry

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// cacheIdle is after how long the series of a key that nobody asked for are gone.
	cacheIdle = 10 * time.Minute
	// cacheLimit bounds the keys of one cache.
	cacheLimit = 8 << 10
)

// A Cache has the instruments of every camera, or another key, that was met of late: of workers that hear of cameras by their
// messages only. A key that was not met for ten minutes has no series any more.
type Cache[V any] struct {
	t    *Telemetry
	open func(s *Set, key string) V
	now  func() time.Time
	stop func()

	mu   sync.RWMutex
	keys map[string]*cached[V]
}

type cached[V any] struct {
	set  *Set
	v    V
	used atomic.Int64
}

// NewCache makes a cache. open is called once for each key, with the set that owns the series of that key.
func NewCache[V any](t *Telemetry, open func(s *Set, key string) V) *Cache[V] {
	c := &Cache[V]{t: t, open: open, now: time.Now, keys: map[string]*cached[V]{}}
	c.stop = t.Collect(func(*Reading) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sweep()
	})
	return c
}

// Get is the value of a key.
func (c *Cache[V]) Get(key string) V {
	now := c.now().UnixNano()
	c.mu.RLock()
	e := c.keys[key]
	c.mu.RUnlock()
	if e == nil {
		e = c.add(key)
	}
	e.used.Store(now)
	return e.v
}

func (c *Cache[V]) add(key string) *cached[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.keys) >= cacheLimit && c.keys[key] == nil {
		key = Other
	}
	if e := c.keys[key]; e != nil {
		return e
	}
	c.sweep()
	set := c.t.Set()
	e := &cached[V]{set: set, v: c.open(set, key)}
	c.keys[key] = e
	return e
}

// sweep forgets keys that were not met of late, when somebody collects and when a key is new. The caller holds mu.
func (c *Cache[V]) sweep() {
	before := c.now().Add(-cacheIdle).UnixNano()
	for k, e := range c.keys {
		if used := e.used.Load(); used != 0 && used < before {
			e.set.Close()
			delete(c.keys, k)
		}
	}
}

// Close gives all series up.
func (c *Cache[V]) Close() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.keys {
		e.set.Close()
		delete(c.keys, k)
	}
}
