package telemetry

import (
	"os"
	"testing"
)

func TestThePageHasTheTable(t *testing.T) {
	const page = "../../docs/observability.md"
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Document(string(old))
	if err != nil {
		t.Fatal(err)
	}
	if text != string(old) {
		t.Error(page + " is stale: make generate")
	}
	if again, err := Document(text); err != nil || again != text {
		t.Error("written twice it differs", err)
	}
	if _, err := Document("# a page"); err == nil {
		t.Error("a page without markers was taken")
	}
}
