// Package recovery notices what broke and mends it: it hands over what a dead worker held, frees the cameras of a dead
// ingest, and, through its sub-packages, puts streams and consumers back as declared and sheds load fairly.
//
// # Who acts
//
// Several replicas run. All of them watch; one leads, by lease, and acts. The lease's epoch is the fencing token of
// everything it does: it is in every event and tombstone, and the lease is confirmed by compare-and-set directly before
// every deed. A leader that was stopped or cut off finds it lost and does nothing more. A standby takes the lease of a leader
// that it sees dead at once, and any other when it expires. What died while nobody led is seen by the standbys, and the
// next leader acts upon it.
//
// # What is a death
//
//   - disconnected: the broker tells that a worker's connection was closed by its kernel, and no beat comes over another
//     one within a quarter of a second. It needs the import described at [streams.DisconnectSubject];
//   - silent: no beat for a second, although at least three of this process's own came through: a hang, a stop, a
//     partition. While own beats do not come through, and for a moment afterwards, nobody is silent: the broker is away;
//   - replaced: another incarnation has the name of one that never left.
//
// A worker that leaves removes its entry and is no death.
//
// # What happens to what it held
//
// First a tombstone takes the place of its entry: the worker has no effects from then on. Then what its last entry claims
// is handed back to its streams, and then what it took after that: every message of its work groups that no living worker
// claims once all of them have beaten again. What was handed back with a delay keeps its delay. A message that is
// handed over although somebody has it is worked on twice, and has its effects once, because those are named by the frame.
// What recovery does not reach comes back by the broker's AckWait.
//
// # What was on its way
//
// When a connection breaks, or the broker restarts, messages that were on their way to a worker are nobody's, although nobody
// died. A worker that beats over another connection opens one case for all of its service: once each of its workers
// is back or declared dead, the work groups are looked at, each tells once more what it holds, and what was with somebody and is claimed by
// nobody is handed back. A leader that is new to the fleet does so once, for it does not know what happened before.
// Every replica notes such a case, so it does not matter whether the lease outlived the broker's absence.
package recovery
