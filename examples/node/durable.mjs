// Handles every prediction at least once, across crashes: a durable consumer with explicit acknowledgement.
//
//   node durable.mjs <name> [camera]     any number of processes may run under one name; they share the messages
import { AckPolicy, DeliverPolicy, jetstream } from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import { connect } from "./connection.mjs";
import { line } from "./predictions.mjs";

const [name, camera = "*"] = process.argv.slice(2);
if (!name) throw new Error("usage: node durable.mjs <name> [camera]");
const nc = await connect();
process.once("SIGINT", () => nc.close()).once("SIGTERM", () => nc.close());

// The first process of this name makes the consumer; the broker keeps it and what was acknowledged.
const durable_name = `app-${name}`; // not among the platform's own
const js = jetstream(nc);
await (await js.jetstreamManager()).consumers.add("PREDICTIONS", {
  durable_name,
  filter_subject: `predictions.*.${camera}`,
  deliver_policy: DeliverPolicy.New,
  ack_policy: AckPolicy.Explicit,
  ack_wait: nanos(30_000), // a message that is not acknowledged by then is delivered again
  max_deliver: -1,
  max_ack_pending: 256,
});
const consumer = await js.consumers.get("PREDICTIONS", durable_name);
console.error(`following as ${durable_name}`);

const handled = new Set(); // keep it with your results: the same id may come again
for await (const m of await consumer.consume({ max_messages: 8 })) {
  let text;
  try {
    text = line(m.string());
  } catch (err) { // it will not get better
    console.error(`malformed message ${m.seq} on ${m.subject}: ${err.message}`);
    m.term("malformed");
    continue;
  }
  const id = m.headers.get("Nats-Msg-Id");
  if (!handled.has(id)) console.log(text); // here the work is done...
  handled.add(id);
  await m.ackAck(); // ...and only then acknowledged
}
