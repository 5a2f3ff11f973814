// Package camera plays footage as a live RTSP camera: for demos, tests and chaos runs.
//
// It is a real server. It paces by the footage's own timestamps, loops with an RTP clock that only grows, sends RTCP
// sender reports, speaks RTSP and RTSPS over TCP and UDP with Basic and Digest authentication, and can be made to fail
// in the ways that cameras do: [Server.Kill] and [Server.Restart], [Server.Stall] and [Server.Resume],
// [Server.SetFaults] for lost and damaged packets, [Server.Switch] for another resolution in mid-stream.
//
// # Footage
//
// [Load] reads MPEG-TS with H.264 or H.265, a JPEG, a file of JPEGs one behind the other, or a folder of JPEGs. It keeps
// the footage in memory; any number of servers may play the same [Footage].
//
// # Time
//
// The camera runs whether or not anybody looks, and also while killed or stalled, like the real thing: a viewer joins
// somewhere between two key frames.
//
// # Concurrency
//
// All methods of a Server may be called from any goroutine once Ready is closed. Nothing runs before Run and nothing
// is left when Run returns.
package camera
