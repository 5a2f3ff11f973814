package statistics

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat"
)

// Autocorrelation is the correlation of a series with itself, values of which are at equal distances in time, by lag from 0 to
// maxLag: the usual estimate that divides by n at every lag (Box and Jenkins; statsmodels' acf with adjusted=False). It is
// ErrConstant when the series does not vary. It takes time in proportion to n*maxLag.
func Autocorrelation(series []float64, maxLag int) ([]float64, error) {
	c, err := newCorrelations(series)
	if err != nil {
		return nil, err
	}
	if maxLag < 0 || maxLag >= len(series) {
		return nil, fmt.Errorf("autocorrelation: lag %d of %d values", maxLag, len(series))
	}
	out := make([]float64, maxLag+1)
	for lag := range out {
		out[lag] = c.at(lag)
	}
	return out, nil
}

// DecorrelationTime is the first lag at which the autocorrelation of a series is below 1/e: values that far apart may pass for
// independent. It is ErrEmpty when that lag is more than a tenth of the series, which is then too short to tell: a mere trend
// falls below 1/e after a quarter of any series.
func DecorrelationTime(series []float64) (int, error) {
	c, err := newCorrelations(series)
	if err != nil {
		return 0, err
	}
	longest := len(series) / 10
	for lag := 1; lag <= longest; lag++ {
		if c.at(lag) < 1/math.E {
			return lag, nil
		}
	}
	return 0, fmt.Errorf("decorrelation time: it is more than %d, a tenth of the series: %w", longest, ErrEmpty)
}

// IntegratedTime is the integrated autocorrelation time of a series, 1 + 2*(the sum of the autocorrelation from lag 1 on): how
// many values are worth one independent one. The sum ends at the first lag of at least 5 times the result so far (Sokal 1996,
// Monte Carlo methods in statistical mechanics, as in emcee), beyond which there is only noise. It is at least 1: values that
// take turns are not counted as more than they are. A series of less than some 50 times the result makes it too small.
func IntegratedTime(series []float64) (float64, error) {
	const window = 5
	c, err := newCorrelations(series)
	if err != nil {
		return 0, err
	}
	tau := 1.0
	for lag := 1; lag < len(series); lag++ {
		tau += 2 * c.at(lag)
		if float64(lag) >= window*tau {
			break
		}
	}
	return max(1, tau), nil
}

// EffectiveSampleSize is how many independent values a series is worth: its length over its [IntegratedTime].
func EffectiveSampleSize(series []float64) (float64, error) {
	tau, err := IntegratedTime(series)
	if err != nil {
		return 0, err
	}
	return float64(len(series)) / tau, nil
}

// correlations knows a series less its mean.
type correlations struct {
	off   []float64
	power float64
}

func newCorrelations(series []float64) (correlations, error) {
	if err := checkFinite("the series", series, 2); err != nil {
		return correlations{}, fmt.Errorf("autocorrelation: %w", err)
	}
	c := correlations{off: make([]float64, len(series))}
	mean := stat.Mean(series, nil)
	for i, v := range series {
		c.off[i] = v - mean
		c.power += c.off[i] * c.off[i]
	}
	if constant(series) || c.power == 0 {
		return correlations{}, fmt.Errorf("autocorrelation: %w", ErrConstant)
	}
	return c, nil
}

func (c correlations) at(lag int) float64 {
	sum := 0.0
	for i := lag; i < len(c.off); i++ {
		sum += c.off[i] * c.off[i-lag]
	}
	return sum / c.power
}
