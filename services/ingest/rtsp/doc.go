// Package rtsp reads cameras over RTSP and RTSPS: H.264, H.265 and MJPEG over UDP or TCP, with Basic and Digest
// authentication.
//
// # Guarantees
//
// Every access unit handed on is whole. One with a hole is dropped and counted, and the next carries AfterLoss. Key
// frames carry parameter sets, from the stream or else from the SDP. Every error has an [ingest.Cause] and no password:
// error texts of the libraries are rewritten, and those of the URL parser are never shown.
//
// # Transport
//
// With [Auto] the first connection asks for TCP, which loses nothing. If the camera will not (461), or nothing complete
// arrives within MediaTimeout, UDP follows at once, and later connections start with what worked, until it does not.
//
// Over UDP the library puts packets in order and waits for a missing one until 64 later ones are in: a stream of few
// packets a second can stand still for seconds after a single loss.
//
// # Concurrency
//
// Run is for one goroutine at a time; SourceStats may be called from any. The sink is called on the library's receive
// goroutine, so it must not block.
package rtsp
