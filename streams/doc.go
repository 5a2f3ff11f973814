// Package streams is the one place where Sightline's services agree on what they say to each other: every
// stream, consumer, bucket and subject is declared here once, and nothing outside this package creates one.
//
// # Delivery
//
// There are two ways through the system and they never share a stream, because they promise opposite things:
//
//   - live (cameras with delivery "freshest"): work queues in memory, a ring of the newest few messages per
//     subject. Late is wrong: a newer frame takes the place of an older one, and a broker restart empties them.
//   - every (cameras with delivery "every_frame"): work queues on disk. Nothing is ever evicted: a full
//     queue refuses the publisher, who waits, so pressure travels back to the camera.
//
// Answers (PREDICTIONS), EVENTS, LEDGER, FEEDBACK and DLQ are limits streams on disk: reading does not consume them.
//
// # Concurrency
//
// Ensure may be called by any number of processes at any time; it creates what is missing, mends what differs
// from its declaration, and changes nothing else. Differences says what differs without changing it.
//
// docs/asyncapi.yaml is generated from these declarations (go generate) and a test holds it to them.
package streams

//go:generate go run ./cmd/asyncapi -o ../docs/asyncapi.yaml
