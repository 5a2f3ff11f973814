// Package quality says how good a model's answers are: from labels, as far as there are any, and otherwise as far as scores
// and counts can tell. Every figure comes with an interval and with the number of things it was made from, and none is made
// from too few.
//
// # With labels
//
// A detection is right when it overlaps a label of its class by an IoU of .5 that no detection with a higher score took:
// COCO's rule ([Match]). A [Window] remembers the last pictures. Precision and recall are of the answers as they were given,
// at the model's own threshold of scores, so AP50 ([AveragePrecision]) ends where the scores do: it is the area under the
// part of the curve that users see, in COCO's 101 steps, as pycocotools' COCOeval computes it with iouThrs [.5] and
// maxDets 100.
//
// Objects of one picture, and of pictures near to each other, share their luck. Intervals are therefore Wilson's, with the
// number of objects divided by the design effect: the variance of the ratio over pictures, by that of independent objects
// (Kish 1965, Survey sampling; Cochran 1977, section 6, for the ratio).
//
// # Without labels
//
// Precision is estimated as the mean of scores that were calibrated to be probabilities (isotonic, by model and class), as
// confidence-based performance estimation does (NannyML's CBPE). It holds only while scores mean what they meant when they
// were calibrated: under suspected loss it is not to be believed. What is missed has no score, so recall cannot be estimated:
// the ratio of the detection rate to that of the same hour ([RateRatio]) is what there is instead.
package quality
