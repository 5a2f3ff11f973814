// Package model declares what a model is: which file it lives in, what its input looks like, what its outputs mean,
// and where a pixel of its input came from in the picture.
//
// # Repository
//
// Models live in a Triton-like repository:
//
//	<repository>/<model>/model.yaml             the [Declaration]
//	<repository>/<model>/<version>/model.onnx   one immutable version; the highest number wins unless one is pinned
//	<repository>/<model>/[<version>/]golden.json  optional: an input and the answer it must give
//
// A model.yaml of one line is complete where the family says the rest:
//
//	family: fastestdet
//
// # Guarantees
//
// [Parse] reports every problem of a file at once, each with its line and with what to write instead, and what it
// accepts passes [Declaration.Validate]. A Declaration is plain data: it survives a round trip through JSON, which is
// how it travels in a key-value bucket. Nothing here needs cgo, and nothing keeps state: every function is safe for
// concurrent use.
//
// # Geometry
//
// [PlanResize] is the one place that decides how a picture, or a region of it, becomes a tensor. Who scales (ingest),
// who cuts and pads (preprocess) and who maps boxes back (infer) all use its [Plan] and [Transform], so they agree to the
// pixel.
package model
