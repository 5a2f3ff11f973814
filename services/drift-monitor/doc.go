// Package driftmonitor watches what cameras show and what models answer, and says when either is no longer what it was.
//
// It reads PREDICTIONS, FEEDBACK and what ingest tells of cameras; it needs no pixels and stands in nobody's way: when it is
// slow or gone, answers go on.
//
// # What it says
//
// In the bucket DRIFT, for everybody who wants to know now (package drift): faults of cameras (package integrity), and for every camera
// and model whether pictures and answers are what they were when the model's version was first seen (package detect). Every change is also
// an event, events.drift.integrity.<camera> and events.drift.state.<camera>.
//
// References are captured by themselves: of every version of a model, on every camera, from its first answer on, hour by hour. Who wants another
// one asks for it (drift.Ask). They are kept in REFERENCES by model, version and camera; a version that comes back has its own.
//
// # Who leads
//
// Several replicas may run; one watches, by lease, and the others take over when the lease ends. The lease's epoch is in everything that is
// written, so that a leader that was stopped for a while cannot overrule its successor.
//
// # What a restart loses
//
// Nothing that is stored in PREDICTIONS. What is known of every camera is written to REFERENCES every minute, and then how
// far that goes; who comes next reads on from there. What it then reads a second time it recognises by the time of capture.
//
// # Bounds
//
// It remembers cameras that are declared in CAMERAS, for each of them a fixed amount, and nothing per frame. What waits to be written is
// the latest for every key.
package driftmonitor
