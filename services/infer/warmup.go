package infer

import (
	"context"
	"fmt"
	"slices"

	"github.com/sightline-dev/sightline/services/infer/heads"
)

// warmUp runs every batch size once on a gray picture and decodes the answers, which are checked to be finite and of the
// right shape. It finds what a file's own description hides, such as a graph that only pretends to an open batch axis,
// and it makes devices compile before the first frame rather than during it.
func (m *Model) warmUp(ctx context.Context) error {
	sizes := m.ladder
	if len(sizes) == 0 {
		sizes = slices.Compact([]int{1, m.artifact.Declaration.MaxBatchSize})
	}
	gray := make([]byte, m.artifact.Declaration.Input.Bytes())
	for i := range gray {
		gray[i] = 127
	}
	for _, size := range sizes {
		err := m.run(ctx, size, func(_ int, dst []float32) { m.table.apply(dst, gray) },
			func(outputs map[string]heads.Tensor) error {
				for i := range size {
					if _, err := m.head.Decode(outputs, i); err != nil {
						return err
					}
				}
				return nil
			})
		if err != nil {
			return fmt.Errorf("warm-up with a batch of %d: %w", size, err)
		}
	}
	return nil
}
