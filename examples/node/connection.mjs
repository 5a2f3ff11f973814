// How to connect, from the environment. A broker on this machine (`make demo`) needs none of it.
//
//   NATS_URL    tls://127.0.0.1:4222     where the broker is; commas between several
//   NATS_NKEY   deploy/secrets/app.nk    the seed of the user `app`
//   NATS_CA     deploy/secrets/ca.pem    who vouches for the broker, where that is no public authority
import { connect as dial, nkeyAuthenticator } from "@nats-io/transport-node";
import { readFileSync } from "node:fs";

export function connect(env = process.env) {
  const options = { servers: (env.NATS_URL ?? "127.0.0.1:4222").split(","), maxReconnectAttempts: -1 };
  if (env.NATS_NKEY) {
    options.authenticator = nkeyAuthenticator(new TextEncoder().encode(readFileSync(env.NATS_NKEY, "utf8").trim()));
    options.inboxPrefix = "_INBOX_app"; // each user of the broker listens to answers of its own only
  }
  if (env.NATS_CA) options.tls = { caFile: env.NATS_CA };
  return dial(options);
}
