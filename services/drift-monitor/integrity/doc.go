// Package integrity finds what is wrong with a camera itself: a picture that stands still, that is black, covered or out of
// focus, a camera that was turned round, mirrored or moved, and the two faults that only ingest can see (a wrong clock, a
// wrong frame rate). It looks at the figures in predictions; it needs no pixels.
//
// # How
//
// A [Camera] learns how its view usually looks: how sharp for its contrast, how much it moves, and which bits of the
// perceptual hash never change. The bits of the hash say whether a low spatial frequency of the picture is above their median, which lies
// close to 0. Turning a picture round, or mirroring it, changes the sign of every frequency that is odd along an axis
// and leaves the others alone. So the hash of the turned view is known without ever having seen it, and a view that is far
// from the usual one and close to the turned one has been turned.
//
// Each fault is raised only after its signs have lasted, and cleared only after they have been gone for a while. While a picture looks wrong in
// any way nothing is learnt from it.
//
// # What it cannot tell
//
// A still scene without noise is a frozen picture, and looks like one. A camera that was turned before it was first seen is
// as it always was.
//
// # Concurrency and memory
//
// A Camera is used by one goroutine. It takes about a kilobyte, whatever it sees.
package integrity
