// Package quality defines the figures that preprocess measures on every picture, in plain Go.
//
// This is the definition, not the fast way: services/preprocess/cv computes the same figures in C and is tested
// against this package, which follows OpenCV 4.6 to the bit (grey is BT.601 in 15-bit fixed point, saturation comes
// from a 12-bit table of reciprocals).
package quality

import (
	"math"
	"slices"
	"sync"

	"github.com/sightline-dev/sightline/pkg/frame"
)

// Cells is the side of the small grey picture that Hash looks at.
const Cells = 32

const low = 8 // side of the block of low frequencies that becomes the hash

// Sums are what one pass over the pixels adds up.
type Sums struct {
	Pixels     int
	Luma       int // grey
	LumaSq     int
	Edge       int // Laplacian of grey
	EdgeSq     int
	Saturation int
	// Cells are mean greys of a Cells x Cells grid over the picture.
	Cells [Cells * Cells]float64
}

// Quality turns the sums into the figures that travel.
func (s *Sums) Quality() frame.Quality {
	if s.Pixels == 0 {
		return frame.Quality{}
	}
	n := float64(s.Pixels)
	luma, edge := float64(s.Luma)/n, float64(s.Edge)/n
	return frame.Quality{
		Luma:       luma,
		Contrast:   math.Sqrt(max(float64(s.LumaSq)/n-luma*luma, 0)),
		Sharpness:  max(float64(s.EdgeSq)/n-edge*edge, 0),
		Saturation: float64(s.Saturation) / n,
		Hash:       Hash(&s.Cells),
	}
}

// Measure adds up a width x height picture of 8-bit B, G, R pixels whose rows are stride bytes apart. Pixels beyond the
// border are mirrored without repeating the outermost one (OpenCV's BORDER_REFLECT_101).
func Measure(bgr []byte, stride, width, height int) Sums {
	s := Sums{Pixels: width * height}
	grey := make([]byte, width*height)
	for y := range height {
		for x := range width {
			p := bgr[y*stride+3*x:]
			b, g, r := p[0], p[1], p[2]
			v := Grey(r, g, b)
			grey[y*width+x] = v
			s.Luma += int(v)
			s.LumaSq += int(v) * int(v)
			s.Saturation += saturation(int(r), int(g), int(b))
		}
	}
	at := func(x, y int) int { return int(grey[mirror(y, height)*width+mirror(x, width)]) }
	for y := range height {
		for x := range width {
			e := at(x-1, y) + at(x+1, y) + at(x, y-1) + at(x, y+1) - 4*at(x, y)
			s.Edge += e
			s.EdgeSq += e * e
		}
	}
	for i := range s.Cells {
		x0, x1 := CellSpan(i%Cells, width)
		y0, y1 := CellSpan(i/Cells, height)
		sum := 0
		for y := y0; y < y1; y++ {
			for x := x0; x < x1; x++ {
				sum += at(x, y)
			}
		}
		s.Cells[i] = float64(sum) / float64((x1-x0)*(y1-y0))
	}
	return s
}

// Grey is the BT.601 grey of a pixel.
func Grey(r, g, b uint8) uint8 {
	return uint8((uint32(r)*9798 + uint32(g)*19235 + uint32(b)*3735 + 1<<14) >> 15) //nolint:gosec // the weights add up to 1<<15
}

func saturation(r, g, b int) int {
	top := max(r, g, b)
	if top == 0 {
		return 0
	}
	reciprocal := int(math.RoundToEven(255 << 12 / float64(top)))
	return ((top-min(r, g, b))*reciprocal + 1<<11) >> 12
}

func mirror(i, n int) int {
	switch {
	case n == 1:
		return 0
	case i < 0:
		return -i
	case i >= n:
		return 2*n - 2 - i
	}
	return i
}

// CellSpan is the range of pixels, of n, that cell i covers. Cells of a picture smaller than the grid share pixels.
func CellSpan(i, n int) (from, to int) {
	from = i * n / Cells
	return from, max((i+1)*n/Cells, from+1)
}

// Hash is the perceptual hash of a small grey picture: one bit for each of its low frequencies (the 8x8 block of its
// cosine transform without the constant, whose bit is always 0), set when it is above their median. A picture that was
// encoded again or made brighter is a few bits away, another picture about half of the 63. A picture of one colour is 0.
func Hash(cells *[Cells * Cells]float64) uint64 {
	basis := cosines()
	var rows [Cells * low]float64 // transformed along x
	for y := range Cells {
		for u := range low {
			var sum float64
			for x := range Cells {
				sum += (cells[y*Cells+x] - cells[0]) * basis[u*Cells+x] // exactly 0 for a picture of one colour
			}
			rows[y*low+u] = sum
		}
	}
	var freq [low * low]float64
	for v := range low {
		for u := range low {
			var sum float64
			for y := range Cells {
				sum += rows[y*low+u] * basis[v*Cells+y]
			}
			freq[v*low+u] = math.Round(sum*16) / 16 // rounding noise must not decide a bit
		}
	}
	sorted := slices.Clone(freq[1:])
	slices.Sort(sorted)
	median := sorted[len(sorted)/2]
	var hash uint64
	for i, f := range freq[1:] {
		if f > median {
			hash |= 1 << (i + 1)
		}
	}
	return hash
}

// cosines are the low basis functions of the cosine transform.
var cosines = sync.OnceValue(func() *[low * Cells]float64 {
	var basis [low * Cells]float64
	for u := range low {
		for x := range Cells {
			basis[u*Cells+x] = math.Cos(math.Pi / Cells * (float64(x) + 0.5) * float64(u))
		}
	}
	return &basis
})
