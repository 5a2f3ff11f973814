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
//     takes no neighbour with it; RetryIn and Drop for a whole batch mean each of its messages;
//   - an output that no stream will ever take (too large, no id, not a subject): as Poison.
//
// A message that arrives with more deliveries than MaxAttempts killed its workers: it is quarantined before any
// handler sees it. So that its neighbours in those processes are not taken for killers too, messages run alone on
// their last two attempts: one at a time, in order and then in reverse. With Strikes it takes two such attempts that
// failed or never ended, noted before each of them; deliveries for any other reason, such as a full queue that another
// worker met, or the death of a process where the message waited, quarantine nothing. A quarantine copy that cannot be
// stored leaves the message where it is.
//
// A handler that goes on for a second after its time-out hangs. Its messages come back as after a time-out, what it
// answers later counts for nothing, and its worker is out until it returns. A stage whose workers all hang hands
// back what waits for them and takes nothing more.
//
// # Death
//
// With a Membership the messages in this process are known to the fleet: when it dies, recovery hands them to others at
// once instead of after AckWait. A process that was declared dead while it lived has no effects from then on for what it
// held (see package fleet): it lets go of that, and pulls again. While it may have been declared dead it pulls nothing.
//
// # Bounds
//
// At most MaxInFlight messages per source are in the process at any time, fetched ones included. They are kept alive
// three times per AckWait of their consumer, at least every two seconds. Publishing waits while the broker is away or an
// output stream full. When only the output's subject is full, that is one camera's queue, the message is handed back
// for a while instead, so that those of other cameras pass; that is no attempt. So pressure travels upstream. Live
// messages whose answers wait to be stored make room for the next ones, up to 64 MiB of them.
//
// # Shutdown
//
// When ctx ends the sources stop fetching and everything already fetched is finished. After DrainTimeout
// handlers are cancelled and what is left is handed back at once, whether its handler listens or not.
package stage
