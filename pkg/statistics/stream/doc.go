// Package stream notices changes in a series of values, one value at a time and in bounded memory.
//
//	ADWIN        a mean that moves, either way; keeps as much of the past as fits the present
//	DDM          an error rate that rises at once
//	EDDM         errors that come closer together: slow drift, at the price of more false alarms
//	HDDM         a mean of values from 0 to 1 that rises, with a bound that supposes nothing else
//	PageHinkley  a mean that rises, old differences fading
//	CUSUM        a mean that rises, differences added up from the last time that they were none
//
// # What it promises
//
// Add takes the next value and says whether it raises an alarm. What follows an alarm begins a new episode: a detector forgets
// what led to it with the next value, not before, so that Status, read or stored after an alarm, still tells of it. ADWIN alone
// forgets only the part of the past that no longer fits. Reset begins a new episode at once.
//
// A value that a detector cannot take (NaN, infinite, outside of its range) changes nothing but Status.Skipped: whoever feeds
// it knows better than a detector what to do about that. Nothing panics.
//
// With the parameters of the Default functions (and Sparse, of ADWIN) alarms come at the same values as those of Frouros, snapshot
// of 2026-02. Where it departs from the paper the type says so.
//
// # State
//
// Every detector is a JSON value of its parameters and its state, so that it survives a restart: unmarshalled into a new
// detector, it goes on as if nothing had happened. Unmarshalling refuses state that no detector of the type can be in, and
// state of another type, and then leaves the detector as it was.
//
// # Concurrency
//
// A detector belongs to one goroutine.
//
// # What it does not promise
//
// The bounds hold for independent values. Frames of a camera are correlated: feed one value a decorrelation time
// (statistics.DecorrelationTime), or means of as many, or expect false alarms.
package stream
