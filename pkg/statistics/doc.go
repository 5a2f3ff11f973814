// Package statistics compares two samples and says how sure one may be: what drift-monitor judges windows by, and rollout a
// new model. The sub-package stream judges one value at a time.
//
// # What it promises
//
// Every function is pure: it changes neither its arguments nor anything else, and is safe for concurrent use. Bad input is an
// error that says which value of which sample is wrong; nothing panics. A result is a finite number unless its comment says
// otherwise. Figures agree with SciPy 1.10 and with Kayenta (R) as their comments say; tests hold them to that.
//
// The reference comes first, what is judged comes second. A sample may come in any order; a sorted one is not copied.
//
// # What it does not promise
//
// Every p-value supposes that the values of a sample are independent, and frames of a camera are not: at 25 frames a second
// adjacent windows of a street where nothing happens differ "significantly". Thin to one value a [DecorrelationTime], or
// judge by [EffectiveSampleSize] and [KolmogorovSmirnovP]. PSI of few values is mostly noise ([PSINoise]). A small p-value
// says that there is a difference, not that it matters: ask for a least distance too.
//
// # Which one
//
//	numbers      KolmogorovSmirnov, CramerVonMises: any difference; MannWhitney, Welch: one of location
//	how far      Wasserstein (in units of the value), WassersteinNormed (in deviations of the reference), Energy
//	bins         PSI, JensenShannon, Hellinger, TotalVariation, of counts: Bin makes them from samples
//	categories   ChiSquareContingency, ChiSquareFit, CramersV, and those for bins
//	embeddings   MMD2
//	how much     LocationShift, CommonLanguage; Wilson, DifferenceOfProportions, RatioOfProportions
//	scores       FitIsotonic, CalibrationError, Brier
//	series       Autocorrelation, DecorrelationTime, IntegratedTime, EffectiveSampleSize
package statistics
