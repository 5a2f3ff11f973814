package streams

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Stream names.
const (
	FramesLive  = "FRAMES_LIVE"
	FramesTwin  = "FRAMES_TWIN"
	Frames      = "FRAMES"
	TensorsLive = "TENSORS_LIVE"
	TensorsTwin = "TENSORS_TWIN"
	Tensors     = "TENSORS"
	Predictions = "PREDICTIONS"
	Events      = "EVENTS"
	Ledger      = "LEDGER"
	DLQ         = "DLQ"
	Feedback    = "FEEDBACK"
)

// Bucket names (JetStream KV).
const (
	CamerasBucket    = "CAMERAS"
	ModelsBucket     = "MODELS"
	LeasesBucket     = "LEASES"
	WorkersBucket    = "WORKERS"
	SamplingBucket   = "SAMPLING"
	BooksBucket      = "BOOKS"
	StrikesBucket    = "STRIKES"
	DriftBucket      = "DRIFT"
	ReferencesBucket = "REFERENCES"
	ConditionsBucket = "CONDITIONS"
)

const (
	// LiveRing is how many messages of one camera (and model and lane) a live stream keeps. Two let a worker hold
	// one while the newest waits; a third rides out the jitter between two workers.
	LiveRing = 3
	// LiveMaxAge bounds the max_age of a freshest camera: the live streams forget at this age.
	LiveMaxAge = 10 * time.Second
	// TensorBacklog is how many tensors of one camera, model and lane may wait on disk before preprocess has to.
	TensorBacklog = 64
	// FrameBacklog is how many frames of one every_frame camera may wait on disk before its ingest has to: one camera whose
	// model does not keep up must not take the room of the others.
	FrameBacklog = 4096
	// FeedbackSize is the largest message of FEEDBACK, in bytes with its headers: a thousand boxes.
	FeedbackSize = 256 << 10
	// Readers is how many consumers of PREDICTIONS there may be, those of services included: applications make them without
	// anybody's help, and each takes memory and, if durable, disk of the broker.
	Readers = 1024
	// LeaseTTL is how long a camera stays with an ingest instance that stopped renewing its lease.
	LeaseTTL = 3 * time.Second
	// WorkerTTL is how long the entry of a worker stays that stopped beating. Recovery declares it dead long before.
	WorkerTTL = 3 * time.Second
	// TombstoneTTL is how long it is remembered that a worker was declared dead: it may only have been stopped.
	TombstoneTTL = time.Hour
	// SamplingTTL is how long lowered sampling stays when nobody renews it.
	SamplingTTL = 30 * time.Second
	// StrikesTTL is how long it is remembered that an attempt of a message did not end well: longer than it rests in between.
	StrikesTTL = 10 * time.Minute
	// ConditionsTTL is how long a condition of a camera holds that nobody renews: whoever found it may be gone.
	ConditionsTTL = time.Minute
	// DuplicateWindow is how long PREDICTIONS remembers the id of an answer. A redelivery later than that, say after the
	// broker was away for longer in mid-acknowledgement, stores the answer a second time, under the same id.
	DuplicateWindow = 5 * time.Minute

	ackWait = 10 * time.Second // the backstop: recovery hands messages over long before
	mib     = 1 << 20
	// maxAckPending counts messages that were handed back for a while, too: the backlogs of sixteen cameras.
	maxAckPending = 16 * FrameBacklog
)

// Options are what a deployment may choose about the streams.
type Options struct {
	// Replicas of every stream and bucket that holds what must survive a node. 0 means 1. Live streams always
	// have one: a replicated frame is late.
	Replicas int
}

func (o Options) replicas() int { return max(o.Replicas, 1) }

// Streams are all streams as declared.
func Streams(o Options) []jetstream.StreamConfig {
	live := jetstream.StreamConfig{
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.MemoryStorage, Replicas: 1,
		MaxMsgsPerSubject: LiveRing, Discard: jetstream.DiscardOld, MaxAge: LiveMaxAge, Duplicates: LiveMaxAge,
	}
	every := jetstream.StreamConfig{
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: o.replicas(),
		Discard: jetstream.DiscardNew, Duplicates: DuplicateWindow,
	}
	record := jetstream.StreamConfig{
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: o.replicas(),
		Discard: jetstream.DiscardOld, Duplicates: DuplicateWindow, AllowDirect: true,
	}

	framesLive, framesTwin, frames := live, live, every
	framesLive.Name, framesLive.Subjects, framesLive.MaxBytes = FramesLive, []string{"frames.live.*"}, 256*mib
	framesLive.Description = "JPEG frames of cameras with delivery freshest: a ring of the newest few per camera"
	framesTwin.Name, framesTwin.Subjects, framesTwin.MaxBytes = FramesTwin, []string{"frames.twin.*"}, 256*mib
	framesTwin.Description = "takes the place of FRAMES_LIVE while its node of the broker is away: on another node"
	frames.Name, frames.Subjects, frames.MaxBytes = Frames, []string{"frames.every.*"}, 2048*mib
	frames.Description = "JPEG frames of cameras with delivery every_frame: nothing is dropped"
	frames.MaxMsgsPerSubject, frames.DiscardNewPerSubject = FrameBacklog, true

	tensorsLive, tensorsTwin, tensors := live, live, every
	tensorsLive.Name, tensorsLive.Subjects, tensorsLive.MaxBytes = TensorsLive, []string{"tensors.live.*.*.*"}, 512*mib
	tensorsLive.Description = "model input of cameras with delivery freshest, uint8 HWC"
	tensorsTwin.Name, tensorsTwin.Subjects, tensorsTwin.MaxBytes = TensorsTwin, []string{"tensors.twin.*.*.*"}, 512*mib
	tensorsTwin.Description = "takes the place of TENSORS_LIVE while its node of the broker is away: on another node"
	tensors.Name, tensors.Subjects, tensors.MaxBytes = Tensors, []string{"tensors.every.*.*.*"}, 2048*mib
	tensors.Description = "model input of cameras with delivery every_frame, uint8 HWC"
	tensors.MaxMsgsPerSubject, tensors.DiscardNewPerSubject = TensorBacklog, true

	predictions, events, ledger, dlq, feedback := record, record, record, record, record
	predictions.Name, predictions.Subjects, predictions.MaxAge, predictions.MaxBytes = Predictions, []string{"predictions.*.*"}, 24*time.Hour, 2048*mib
	predictions.MaxConsumers = Readers
	predictions.Description = "one answer per frame and model version, and gap records: what applications subscribe to"
	events.Name, events.Subjects, events.MaxAge, events.MaxBytes = Events, []string{"events.*.*.*"}, 7*24*time.Hour, 128*mib
	events.Description = "everything that happened"
	ledger.Name, ledger.Subjects, ledger.MaxAge, ledger.MaxBytes = Ledger, []string{"ledger.*"}, 24*time.Hour, 512*mib
	ledger.Description = "the fate of every frame, as ranges"
	dlq.Name, dlq.Subjects, dlq.MaxAge, dlq.MaxBytes = DLQ, []string{"dlq.*.*"}, 7*24*time.Hour, 1024*mib
	dlq.Description = "quarantined messages with reason, attempts, stage and model version"

	feedback.Name, feedback.Subjects, feedback.MaxAge, feedback.MaxBytes = Feedback, []string{"feedback.*"}, 7*24*time.Hour, 256*mib
	feedback.Description, feedback.MaxMsgSize = "what applications and people say of answers: labels of frames, verdicts on detections", FeedbackSize

	return []jetstream.StreamConfig{framesLive, framesTwin, frames, tensorsLive, tensorsTwin, tensors, predictions, events, ledger, dlq, feedback}
}

// Buckets are all KV buckets as declared.
func Buckets(o Options) []jetstream.KeyValueConfig {
	return []jetstream.KeyValueConfig{
		{Bucket: CamerasBucket, Description: "desired state of every camera, by name", History: 10, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: 64 * mib},
		{Bucket: ModelsBucket, Description: "declaration and version of every model, by name", History: 10, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: 64 * mib},
		{Bucket: LeasesBucket, Description: "which ingest instance owns a camera; the revision at acquisition is the epoch", History: 1, TTL: LeaseTTL, LimitMarkerTTL: LeaseTTL, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: 16 * mib},
		{Bucket: WorkersBucket, Description: "who is at work, and what every worker holds; an entry lives for WorkerTTL, a tombstone for the bucket's TTL", History: 1, TTL: TombstoneTTL, LimitMarkerTTL: WorkerTTL, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: 64 * mib},
		{Bucket: SamplingBucket, Description: "the share of frames that cameras capture while workers cannot keep up", History: 1, TTL: SamplingTTL, LimitMarkerTTL: LeaseTTL, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: mib},
		{Bucket: BooksBucket, Description: "what the books of LEDGER come to, so that a reader need not begin at the beginning", History: 1, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: 256 * mib},
		{Bucket: StrikesBucket, Description: "attempts of messages, alone in their worker, that failed or never ended, by stream, sequence and time", History: 1, TTL: StrikesTTL, LimitMarkerTTL: LeaseTTL, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: 16 * mib},
		{Bucket: DriftBucket, Description: "what the drift-monitor makes of every camera and model: state, integrity faults, quality, fairness", History: 1, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: 128 * mib},
		{Bucket: ReferencesBucket, Description: "what every camera and model is held against, by model, version and camera; and how far the drift-monitor has read", History: 1, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: 1024 * mib},
		{Bucket: ConditionsBucket, Description: "why answers about a camera cannot be trusted as usual, by camera, for as long as somebody renews it", History: 1, TTL: ConditionsTTL, LimitMarkerTTL: LeaseTTL, Replicas: o.replicas(), Storage: jetstream.FileStorage, MaxBytes: 4 * mib},
	}
}

// consumer is one work group: every replica of a service that binds to it takes the next message.
type consumer struct {
	stream string
	config jetstream.ConsumerConfig
}

func group(stream, durable, filter, description string) consumer {
	return consumer{stream: stream, config: jetstream.ConsumerConfig{
		Durable: durable, Description: description, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxDeliver: -1, MaxAckPending: maxAckPending,
	}}
}

func preprocessGroups() []consumer {
	return []consumer{
		group(FramesLive, "preprocess", "frames.live.*", "preprocess workers"),
		group(Frames, "preprocess", "frames.every.*", "preprocess workers"),
		group(FramesTwin, "preprocess", "frames.twin.*", "preprocess workers"),
	}
}

func inferGroups(model string, lane Lane) []consumer {
	durable := "infer-" + model + "-" + string(lane)
	live := TensorSubject(Freshest, model, lane, "*")
	twin, _ := Twin(live)
	return []consumer{
		group(TensorsLive, durable, live, "infer workers of one model and lane"),
		group(Tensors, durable, TensorSubject(EveryFrame, model, lane, "*"), "infer workers of one model and lane"),
		group(TensorsTwin, durable, twin, "infer workers of one model and lane"),
	}
}
