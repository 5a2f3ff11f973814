package telemetry

//go:generate go run ./cmd/metrics -o ../../docs/observability.md

// Name is a metric of the table. There are no others.
type Name int

// The metrics, in the order of the table.
const (
	FramesReceived Name = iota
	FramesCaptured
	FramesPublished
	FramesDropped
	FramesPredicted
	FramesFate
	FramesInFlight
	FrameInterval
	FrameAge
	DecodeErrors
	Reconnects
	CameraUp
	CameraLastFrame
	CameraSampling
	OutboxFrames
	OutboxDropped
	StageDuration
	StageMessages
	Redeliveries
	DuplicatesSuppressed
	DeadLetters
	PublishErrors
	QueueDepth
	QueueInFlight
	QueueRedelivered
	LastPrediction

	InferenceRequests
	InferenceDuration
	InferenceBatchSize
	Detections
	DetectionsPerFrame
	DetectionScore
	ModelLoaded
	ModelsRefused

	DriftState
	DriftScore
	DriftThreshold
	DriftEffectiveSamples
	IntegrityFault
	QualityPrecision
	QualityRecall
	QualityAP50
	QualityDetectionRateRatio
	FairnessGap
	FairnessRatio

	RecoveryActions
	RecoveryDuration
	Leader
	Workers

	RolloutState
	RolloutWeightRatio
	Rollbacks

	TracesKept
	TraceSpansDropped
	TelemetryExports

	BuildInfo
	ProcessCPU
	ProcessMemory
	ProcessOpenFDs
	ProcessStart
	ProcessThreads
	GoGoroutines
	GoHeapObjects
	GoHeapGoal
	GoMemory
	GoAllocated
	GoGCCycles
	GoMaxProcs
	HostCPU
	HostMemoryTotal
	HostMemoryAvailable
	HostNetworkReceived
	HostNetworkTransmitted
	HostDiskRead
	HostDiskWritten
	HostFilesystemSize
	HostFilesystemAvailable

	GPUSMClock
	GPUMemClock
	GPUTemperature
	GPUPower
	GPUEnergy
	GPUUtilization
	GPUMemCopyUtilization
	GPUEncUtilization
	GPUDecUtilization
	GPUMemFree
	GPUMemUsed
	GPUMemReserved
	GPUPCIeReplays

	names int = iota
)

// Prefix begins the names of the platform's own metrics. Those of processes, of the Go runtime and of GPUs have the names
// that everybody's dashboards know.
const Prefix = "sightline_"

// Kind is what a metric's value does.
type Kind string

// The kinds.
const (
	KindCounter   Kind = "counter"
	KindGauge     Kind = "gauge"
	KindHistogram Kind = "histogram"
)

// Metric is one row of the table.
type Metric struct {
	Name    string // as it is exported
	Kind    Kind
	Unit    string // as UCUM writes it
	Labels  []Label
	Help    string
	Buckets []float64 // of a histogram: upper bounds
	From    string    // who exports it
}

// A Label is a dimension of a metric.
type Label struct {
	Name string
	// Values is the closed set of its values; nil when they are declared.
	Values []string
	// Declared says who declares the values of an open set: there are as many as somebody configured.
	Declared string
}

// Other is the value of a label whose true value is not in its closed set, or has no room. No camera and no model has such a
// name.
const Other = "_other"

// Metrics is the table.
func Metrics() []Metric {
	rows := table()
	return rows[:]
}

// String is the name as it is exported.
func (n Name) String() string { return table()[n].Name }
