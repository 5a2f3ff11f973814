// Package fairness compares how well a model serves different slices of what it sees, none of which needs to know anything
// about a person: cameras, sites, hours, light, the size of objects, where in the picture they are, and whatever label the
// operator or who gives feedback declares.
//
// # Figures
//
//   - recall (equal opportunity): of the objects that were really there, the share that was found. Needs labels.
//   - precision: of the detections, the share that was right. Needs labels.
//   - detection_rate (demographic parity): of the pictures, the share with any detection. Needs none, and says less: slices
//     may differ because the world does. Pictures of one camera nearer than [Config.Thin] are one.
//
// For each figure and axis: gap = best - worst, ratio = worst/best (the four-fifths rule asks for .8; EEOC Uniform Guidelines
// 1978, section 4D), both slices by name, and 95 % intervals: Wilson's for a slice, Newcombe's (method 10) for the gap and
// MOVER-R for the ratio, at a confidence that allows for the best and the worst having been picked out of many (Bonferroni
// over pairs). Objects count as independent, which those of one picture are not quite: intervals are a little narrow. Slices
// of fewer than [FewObjects] are refused by name, not counted as bad or good.
//
// # Slices
//
// Small, medium and large are COCO's: areas below 32x32, below 96x96, and above, in pixels of the picture. Light is dark,
// medium or bright: thirds of all that was counted, by the luma of the picture. Regions are thirds across and down, by the
// centre of a box.
//
// # Time
//
// Counts are of the present and the past [Config.Period]: what is older is forgotten.
package fairness
