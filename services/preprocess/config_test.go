package preprocess_test

import (
	"testing"

	"github.com/sightline-dev/sightline/services/preprocess"
)

func TestConfigErrors(t *testing.T) {
	if err := preprocess.Default().Validate(); err != nil {
		t.Errorf("the default is not valid: %v", err)
	}
	err := preprocess.Config{Instance: "a b", Workers: -1}.Validate()
	want := `instance: "a b" is not a name: use 1 to 63 letters, digits, '-' or '_', starting with a letter or digit
workers: -1: write 1 to 256, or 0 for one per CPU
max_attempts: 0: write 1 or more
timeout: 0s: write a positive duration
drain_timeout: 0s: write a positive duration`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestNewErrors(t *testing.T) {
	if _, err := preprocess.New(preprocess.Config{}, preprocess.Deps{}); err == nil {
		t.Error("an invalid configuration is accepted")
	}
	_, err := preprocess.New(preprocess.Default(), preprocess.Deps{})
	if want := "preprocess: Deps need JetStream, Models and Imager"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
