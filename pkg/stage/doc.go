// Package stage is the runtime that every worker shares: pull, handle, publish, acknowledge. A handler sees
// messages and returns messages; it never sees an acknowledgement, and nobody else acknowledges.
//
// # Delivery
//
// A message's outputs are acknowledged by their stream before the message itself is, and that acknowledgement is
// itself acknowledged (double ack). A crash at any point therefore leads to a redelivery, never to a loss; outputs
// carry deterministic ids, so that a redelivery leads to no double. The handler's verdict on a message decides its
// fate:
//
//   - no error: outputs are published, the message is done;
//   - Drop: the message is done without outputs, with a fate and a reason that are counted;
//   - Poison: the message is copied to DLQ with the reason, then terminated;
//   - RetryIn: the message comes back after the delay;
//   - any other error, a panic or a time-out: the message comes back with growing delays, and is quarantined
//     after MaxAttempts. An error for a whole batch makes the runtime bisect it, so that one poison message
//     takes no neighbour with it.
//
// A message that arrives with more deliveries than MaxAttempts killed its workers: it is quarantined before any
// handler sees it. A quarantine copy that cannot be stored leaves the message where it is.
//
// # Bounds
//
// At most MaxInFlight messages per source are in the process at any time, fetched ones included. Publishing
// waits, with the message kept alive, while the output stream is full or the broker away; that is how pressure
// travels upstream.
//
// # Shutdown
//
// When ctx ends the sources stop fetching and everything already fetched is finished. After DrainTimeout
// handlers are cancelled and what is left is handed back at once.
package stage
