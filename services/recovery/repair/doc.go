// Package repair keeps what is declared in streams as declared while the broker runs: streams, buckets and work groups
// that somebody deleted or altered are brought back within a second of the deed.
//
// # What triggers it
//
// The broker's advisories, and a sweep over everything every two seconds as the backstop: also at the start, and whenever
// the connection is back. Whoever runs a Repair leads: leadership is confirmed directly before every action, and the fencing
// token is in every event.
//
// # What it does not do
//
// It never deletes messages that somebody could still want. A stream that can only be mended by deleting it is told of,
// with what an operator has to do. It deletes consumers, whose messages come back, and, in a cluster, a live stream whose
// node has been away for ten seconds, or a twin without messages that is on the node of the stream it stands in for.
//
// A limit that somebody raised is not lowered again while a stream on disk holds more than that: the update would delete
// messages. That is told, and done when the stream has emptied. An alteration that comes back whenever it is mended (a limit of
// the server's own, a controller with another declaration) is told, and from then on mended ever less often.
//
// Desired state (cameras, models) that was deleted with its bucket is not written again: who applies it next decides.
//
// # What it tells
//
// Every action is one event, recovery.repair.<stream or stream.consumer>; a failure is told once for each reason. What an
// operator deleted, purged or paused is recovery.operator.<...>, with who, when and how many messages; what was purged
// from a stream is told to the books as well, also if nobody led at that moment: see Purges. Work that nobody serves is recovery.unserved.<stage or model>.
package repair
