// Package reference is what a camera showed and a model answered while all was well: what later is held against.
//
// A [Reference] belongs to one camera, one model and one version of it. It is captured after the version was promoted, hour
// by hour of the day ([Config.Hours]), because noon and midnight are two scenes. What an hour's [Bucket] holds:
//
//   - a histogram of every feature (package feature), the classes and the common bits of the perceptual hashes;
//   - the decorrelation time of every feature: frames nearer to each other in time say the same thing again;
//   - thresholds that were learnt: for windows as long as those that will be judged, the distribution of every test's score
//     within the reference itself.
//
// # When it is enough
//
// A bucket is finished when it covers [Config.Span], holds [Config.Effective] independent pictures, and its two halves do not
// differ by anything worth telling: then it has seen the scene's normal cycle. A scene that never settles is finished after
// three times the span, with the thresholds that it needs ([Bucket.Settled] is false).
//
// # Thresholds
//
// A window is cut out of the reference at every block's end and compared with the rest of the reference. The threshold of a
// test is mean + 3 standard deviations of these scores, as NannyML has it for chunks (docs of NannyML 0.13, "Thresholds"), and
// at least a quarter above the largest of them: a scene that repeats itself has a bounded, not a normal distribution. PSI and
// Jensen-Shannon have their noise floors taken off first (feature.Compare). The smallest change worth telling is not in the
// threshold; who judges asks for both.
//
// # Concurrency
//
// Nothing here is safe for concurrent use, reads no clock and starts nothing. Everything is a function of its observations.
package reference
