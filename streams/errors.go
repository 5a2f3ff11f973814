package streams

import (
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Hopeless reports errors of a publish that the same message will always meet: trying again would block whatever is
// behind it.
func Hopeless(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum ||
		errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject) || errors.Is(err, nats.ErrBadHeaderMsg)
}

// Conflict reports that a compare-and-set lost: somebody else wrote the key, or is about to.
func Conflict(err error) bool {
	const inProcess = 10164 // another write of the same key is on its way through a cluster
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == inProcess) || errors.Is(err, jetstream.ErrKeyExists)
}

// Offline reports that a stream is declared, and that no node of the broker that has it is there.
func Offline(err error) bool {
	const offline = 10118
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == offline
}
