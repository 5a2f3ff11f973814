package cli

import (
	"encoding/json"
	"fmt"
	"time"
)

// How often a table is shown anew.
const (
	boardEvery = time.Second     // on a terminal
	linesEvery = 5 * time.Second // elsewhere
)

// writeJSON writes one line.
func (a *app) writeJSON(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return a.printf("%s\n", data)
}
