// Reads Sightline's predictions with an ordinary NATS client.
//
//   node predictions.mjs latest [camera]                          the newest message of every model and camera
//   node predictions.mjs replay 2026-01-31T08:00:00Z [camera]     what was stored since then
//   node predictions.mjs live [camera]                            what happens from now on, until Ctrl-C
import { DeliverPolicy, jetstream } from "@nats-io/jetstream";
import { fileURLToPath } from "node:url";
import { connect } from "./connection.mjs";

const stream = "PREDICTIONS";
const subject = (camera = "*") => `predictions.*.${camera}`;

/** Each reader is an ordered consumer: the client makes it anew after a disconnect, where the last message left off. */
const read = (js, camera, from) => js.consumers.get(stream, { filter_subjects: subject(camera), ...from });

/** What is stored, then the end. */
async function* stored(consumer) {
  if ((await consumer.info()).num_pending === 0) return;
  for await (const m of await consumer.consume({ expires: 2_000 })) {
    yield m;
    if (m.info.pending === 0) return;
  }
}

export async function* latest(js, camera) {
  yield* stored(await read(js, camera, { deliver_policy: DeliverPolicy.LastPerSubject }));
}

export async function* replay(js, camera, since) {
  yield* stored(await read(js, camera, { deliver_policy: DeliverPolicy.StartTime, opt_start_time: since }));
}

export async function* live(js, camera) {
  // From a number, not from "new": a consumer that is made anew before the first message must not skip any.
  const { state } = await (await js.jetstreamManager()).streams.info(stream);
  const from = { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: state.last_seq + 1 };
  // After a crash of the broker the client may notice only after up to 1.5 times "expires" (by default 30 s).
  const messages = await (await read(js, camera, from)).consume({ expires: 2_000 });
  console.error(`following ${subject(camera)}`);
  yield* messages;
}

/** One line of text for a message. Throws when it is not what prediction.schema.json says. */
export function line(data) {
  const p = JSON.parse(data);
  if (p.schema !== "sightline.prediction.v1") throw new Error(`schema ${p.schema}`);
  if (p.kind === "gap") { // nobody looked: that is not the same as nothing in view
    return `${p.gap.from} ${p.camera} ${p.model}: unknown, ${p.gap.reason} until ${p.gap.to ?? "further notice"}`;
  }
  const objects = p.detections.map((d) => `${d.class} ${d.score.toFixed(2)}`).join(", ") || "nothing in view";
  return `${p.captured_at} ${p.camera} ${p.model}: ${objects}${p.status === "degraded" ? " (degraded)" : ""}`;
}

async function main([command, ...args]) {
  const nc = await connect();
  const js = jetstream(nc);
  const messages = {
    latest: () => latest(js, args[0]),
    replay: () => replay(js, args[1], args[0]),
    live: () => live(js, args[0]),
  }[command];
  if (!messages) throw new Error("usage: node predictions.mjs latest | replay <RFC 3339 time> | live  [camera]");
  process.once("SIGINT", () => nc.close()).once("SIGTERM", () => nc.close());
  for await (const m of messages()) {
    try {
      console.log(line(m.string()));
    } catch (err) { // one bad message must not end the reader
      console.error(`malformed message ${m.seq} on ${m.subject}: ${err.message}`);
    }
  }
  await nc.close();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
