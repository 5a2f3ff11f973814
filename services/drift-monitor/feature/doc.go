// Package feature turns what a model said about one picture into numbers that can be compared with what it said before:
// figures of the picture (the input) and of the answer (the output), each on a scale of its own, counted in bins.
//
// # Scales
//
// A scale is chosen so that one step means about the same everywhere on it: light in grey levels, contrast and sharpness in
// octaves, because half as sharp is as bad for a sharp camera as for a soft one. Its [Scale.Least] is the smallest change
// that anybody should hear of, however significant it is: with enough pictures everything is significant.
//
// # Bins
//
// A bin is half of Least wide, and a value is shared between the two bins whose centres are nearest to it, in proportion.
// The mean of a histogram is then that of its values exactly, distances change smoothly as values move, and what moves by
// less than a bin hardly counts. Plain bins make a step of nothing look like a move of everybody when it crosses an edge.
package feature
