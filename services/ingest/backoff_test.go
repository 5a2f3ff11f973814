package ingest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/ingest"
)

func TestBackoffDoublesToItsMaximum(t *testing.T) {
	b := ingest.Backoff{Min: 250 * time.Millisecond, Max: 5 * time.Second, Rand: func() float64 { return 1 }}
	got := make([]time.Duration, 0, 7)
	for range cap(got) {
		got = append(got, b.Next())
	}
	want := []time.Duration{250e6, 500e6, 1e9, 2e9, 4e9, 5e9, 5e9}
	if !slices.Equal(got, want) {
		t.Errorf("pauses are %v, want %v", got, want)
	}
	b.Reset()
	if d := b.Next(); d != 250*time.Millisecond {
		t.Errorf("after Reset: %s", d)
	}
}

func TestBackoffJitter(t *testing.T) {
	b := ingest.Backoff{Min: time.Second, Max: time.Second}
	low, high := time.Hour, time.Duration(0)
	for range 1000 {
		d := b.Next()
		low, high = min(low, d), max(high, d)
	}
	if low < 500*time.Millisecond || low > 600*time.Millisecond || high > time.Second || high < 900*time.Millisecond {
		t.Errorf("pauses are %s to %s, want about 500ms to 1s", low, high)
	}
}

func TestBackoffZeroNeverWaits(t *testing.T) {
	var b ingest.Backoff
	for range 3 {
		if d := b.Next(); d != 0 {
			t.Errorf("waited %s", d)
		}
	}
}
