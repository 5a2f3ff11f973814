// Package predictions is what downstream applications use: the answer to a frame, and how to subscribe to
// answers, replay them and ask for the latest one per camera.
//
// # What a message means
//
// A Prediction with kind "prediction" and no detections means that nothing was in view. When the platform could
// not look, it says so instead: a message with kind "gap", status "unknown", the reason and the time range. Every
// frame of a camera gets exactly one prediction per model version.
//
// Messages are JSON (prediction.schema.json); an application in another language needs nothing but a NATS client.
// docs/predictions.md is written for its developers.
//
// # Which method
//
//   - Subscribe follows what happens from now on. SubscribeSince and SubscribeAfter begin earlier.
//   - Replay reads what is stored and ends.
//   - Latest reads the newest message of every model and camera, and ends.
//   - Durable follows under a name that the broker remembers: several processes share the messages, and what a
//     process had not acknowledged when it crashed is delivered again.
//
// # Delivery
//
// Every method but Durable delivers each stored message once and in the order of the stream, across lost
// connections, broker restarts and changes of leader. When messages were removed from the stream before they could
// be read, a *MissedError says so: silence never stands for a loss. Durable delivers at least once; a message that
// comes again may come after newer ones.
//
// # Errors
//
// All methods return sequences of messages and errors. An error never stands for the end: log it and continue.
//
//   - A *MalformedError concerns one message; its Subject and Seq tell which.
//   - A *MissedError says that messages were gone before they could be read.
//   - Other errors say that the broker cannot be reached or answered badly; the sequence tries again, forever.
//
// A sequence ends when its context ends, when the loop is left, when Replay or Latest have delivered everything,
// and after an error that no patience can mend: ErrFilter, ErrDurableDiffers and nats.ErrConnectionClosed.
//
// # Concurrency
//
// A Client may be used by many goroutines. Nothing runs in the background between the loops: a sequence reads
// while somebody ranges over it, and each range starts anew.
package predictions
