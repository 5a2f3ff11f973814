package main

import "github.com/sightline-dev/sightline/streams"

// channel describes one subject of a stream. What is not declared in package streams is here: who publishes what.
type channel struct {
	key       string
	subject   string // with {parameters}
	within    string // the stream's subject that has it, where that is wider
	message   string // key in components.messages
	publisher string
	summary   string
}

// channels has one entry per subject of every stream; a test holds it to that.
func channels() []channel {
	const camera, model, lane = "{camera}", "{model}", "{lane}"
	return []channel{
		{
			key: "framesLive", subject: streams.FrameSubject(streams.Freshest, camera), message: "frame", publisher: "ingest",
			summary: "Frames of cameras with delivery freshest. Late is wrong: the newest few are kept per camera.",
		},
		{
			key: "framesTwin", subject: twin(streams.FrameSubject(streams.Freshest, camera)), message: "frame", publisher: "ingest",
			summary: "As framesLive, while its node of the broker is away.",
		},
		{
			key: "framesEvery", subject: streams.FrameSubject(streams.EveryFrame, camera), message: "frame", publisher: "ingest",
			summary: "Frames of cameras with delivery every_frame. A full stream refuses the publisher, who waits.",
		},
		{
			key: "tensorsLive", subject: streams.TensorSubject(streams.Freshest, model, lane, camera), message: "tensor", publisher: "preprocess",
			summary: "Model input of cameras with delivery freshest.",
		},
		{
			key: "tensorsTwin", subject: twin(streams.TensorSubject(streams.Freshest, model, lane, camera)), message: "tensor", publisher: "preprocess",
			summary: "As tensorsLive, while its node of the broker is away.",
		},
		{
			key: "tensorsEvery", subject: streams.TensorSubject(streams.EveryFrame, model, lane, camera), message: "tensor", publisher: "preprocess",
			summary: "Model input of cameras with delivery every_frame.",
		},
		{
			key: "predictions", subject: streams.PredictionSubject(model, camera), message: "prediction", publisher: "infer; gaps come from the service that could not look",
			summary: "What applications subscribe to: one answer per frame and model version, and gaps. See predictions.md.",
		},
		{
			key: "events", subject: streams.EventSubject("{area}", "{kind}", "{name}"), message: "event", publisher: "every service",
			summary: "Everything that happened and that an operator would want to know afterwards.",
		},
		{
			key: "ledger", subject: streams.LedgerSubject(camera), message: "ledgerRecord", publisher: "ingest, preprocess and infer",
			summary: "The fate of every frame, as ranges of frame numbers.",
		},
		{
			key: "ledgerIncidents", subject: streams.IncidentSubject, within: streams.LedgerSubject("*"), message: "ledgerIncident", publisher: "recovery",
			summary: "What befell more than one camera: the ledger's readers take it with the records.",
		},
		{
			key: "dlq", subject: streams.DLQSubject("{stage}", camera), message: "quarantined", publisher: "preprocess and infer",
			summary: "Messages that a stage could not handle, as they were, with the reason.",
		},
		{
			key: "feedback", subject: streams.FeedbackSubject(camera), message: "feedback", publisher: "applications and people",
			summary: "What was really in a frame: labels, or verdicts on the detections of an answer. See predictions.md.",
		},
	}
}

func twin(subject string) string {
	s, _ := streams.Twin(subject)
	return s
}
