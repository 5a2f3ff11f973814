// Package detect says of one camera and one model, as answers come in, whether what is seen and answered is still what it
// was when the model was promoted.
//
// # What it says
//
// [OK]; [DataDrift]: the picture or what is in it has changed, and the model seems to cope; [SuspectedLoss]: the model no
// longer finds what is there, as far as that can be told without labels; [NotEnoughData]: there is no reference, or too few
// independent pictures. Only SuspectedLoss is for machines to act on.
//
// # How
//
// Pictures are thinned to one per decorrelation time of the fastest feature: nearer ones say the same again (on the demo's
// footage brightness has an autocorrelation of .99 from one picture to the next at 5 a second). They are counted in blocks
// (package feature). Every block, the last 4 and the last 9 are compared with the reference of the same part of the day
// (package reference) by Wasserstein, Kolmogorov-Smirnov, PSI, Jensen-Shannon, and embeddings by MMD. A feature has moved
// when its mean distance (Wasserstein) is above both the smallest change worth telling and what was learnt, and one of the
// tests of shape agrees. Page-Hinkley on the picture's features finds sudden changes: what was before is then left out of the
// windows, so that they do not mix two scenes.
//
// # Loss or not
//
// Drift of the input is not loss, and the mean score alone is nearly blind (a low contrast costs YOLOX-nano 12 points of
// AP50 while its mean score rises). The rules, in order, are in [judge]; what they were measured on is in testdata/README.md:
//
//  1. The picture is worse (light, contrast, sharpness or colour moved) and scores fell, or detections became fewer, or
//     became more with lower scores: loss. Fewer detections of another view in the same light do not count.
//  2. The picture is another view, and scores fell, or it is the view upside down: loss. Else the view has changed: drift.
//  3. The picture is what it was, and the number of detections changed. Where motion follows the number of objects in the
//     reference, it is asked: if it moved with it, others are there now, or nobody: drift, of content. If it did not, they are
//     there and are not found: loss. Where motion cannot tell, it is content.
//  4. The picture is what it was, and only scores fell: loss (another model, or one that is fed wrongly).
//  5. The picture is worse in a way that costs recall in general ([Config.Costly]), and there is too little in view to see
//     whether it does here: loss.
//  6. Anything else that moved: drift.
//
// # States change slowly
//
// A state is raised when two blocks in a row say so, and lowered when six do, at thresholds a fifth lower. A gap in the
// pictures longer than a short window empties the windows.
//
// # Concurrency
//
// A [Detector] is for one goroutine, reads no clock, starts nothing, and is of bounded size: see its benchmark. The same
// observations give the same verdicts. [Detector.Encode] is its whole state.
package detect
