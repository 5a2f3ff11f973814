// Package infer turns tensors into answers: it loads models, checks them, feeds them in batches and maps what they find
// back to the camera's picture.
//
// # Layers
//
// [Backend] and [Session] run a model file and know nothing of its meaning; services/infer/ort is the real one. The heads
// in services/infer/heads know the meaning of raw outputs. A [Model] is a session with its head and its declaration; the
// service feeds models from the broker.
//
// # Guarantees
//
// [Load] returns a model only if it fits its declaration, gives finite answers for every batch size, and gives its golden
// answer. [Model.Infer] never turns a failure into an empty answer: a picture whose output is not finite is an error,
// and its neighbours in the batch keep their answers. Boxes are in pixels of the source picture and within it.
//
// # Concurrency
//
// A [Model] is safe for any number of goroutines. Close waits for the calls under way; later ones get [ErrClosed].
//
// # Shutdown
//
// Nothing here starts a goroutine that outlives the call that started it.
package infer
