package feature

import (
	"encoding/json"
	"fmt"
	"math"
)

// Dimensions is how many numbers are kept of an embedding.
const Dimensions = 16

// Vectors are projected embeddings, each of Dimensions numbers.
type Vectors [][]float64

// levels is the largest of the whole numbers that a vector's are stored as.
const levels = 127

type packed struct {
	Scale float64 `json:"scale"`
	Data  []byte  `json:"data"`
}

// MarshalJSON writes each number as one byte, 1/127 of the largest.
func (v Vectors) MarshalJSON() ([]byte, error) {
	var p packed
	for _, e := range v {
		for _, x := range e {
			p.Scale = max(p.Scale, math.Abs(x))
		}
	}
	p.Scale = float64(float32(p.Scale))
	for _, e := range v {
		for _, x := range e {
			n := 0.0
			if p.Scale > 0 {
				n = math.Round(x / p.Scale * levels)
			}
			p.Data = append(p.Data, byte(int8(max(min(n, levels), -levels)))) //nolint:gosec // a sign in a byte
		}
	}
	return json.Marshal(p)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *Vectors) UnmarshalJSON(data []byte) error {
	var p packed
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("embeddings: %w", err)
	}
	if len(p.Data)%Dimensions != 0 || !(p.Scale >= 0 && p.Scale <= math.MaxFloat32) {
		return fmt.Errorf("embeddings: %d numbers up to %v", len(p.Data), p.Scale)
	}
	*v = nil
	for i := 0; i < len(p.Data); i += Dimensions {
		e := make([]float64, Dimensions)
		for j := range e {
			e[j] = float64(int8(p.Data[i+j])) * p.Scale / levels //nolint:gosec // a sign in a byte
		}
		*v = append(*v, e)
	}
	return nil
}

// Project keeps distances of an embedding of any length about as they are in Dimensions numbers: a product with fixed
// random signs (Achlioptas 2003, Database-friendly random projections). It is nil for what is not finite.
func Project(embedding []float32) []float64 {
	out := make([]float64, Dimensions)
	norm := 0.0
	for i, x := range embedding {
		norm += float64(x) * float64(x)
		signs := mix(uint64(i))
		for j := range out {
			if signs>>j&1 == 1 {
				out[j] += float64(x)
			} else {
				out[j] -= float64(x)
			}
		}
	}
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return nil
	}
	for j := range out {
		out[j] = math.Round(out[j]/math.Sqrt(Dimensions)*1e4) / 1e4
	}
	return out
}

// mix is splitmix64: bits that look random, always the same.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
