package telemetry

import (
	"slices"

	"github.com/sightline-dev/sightline/streams"
)

// The bounds of histograms. Durations and ages are those that messaging systems use.
func seconds() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
}

func ages() []float64 { return seconds()[2:] }

func sizes() []float64 { return []float64{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128} }

func counts() []float64 { return []float64{0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144} }

func scores() []float64 {
	b := make([]float64, 0, 20)
	for i := 1; i <= 20; i++ {
		b = append(b, float64(i*5)/100)
	}
	return b
}

func intervals() []float64 {
	return []float64{.01, .02, .03, .04, .05, .075, .1, .15, .2, .3, .5, .75, 1, 2, 5, 10}
}

// Values of labels.
const (
	StageIngest     = "ingest"
	StagePreprocess = "preprocess"
	StageInfer      = "infer"

	PhaseQueue   = "queue"
	PhaseWork    = "work"
	PhasePublish = "publish"

	OutcomeDone        = "done"
	OutcomeDropped     = "dropped"
	OutcomeRetried     = "retried"
	OutcomeQuarantined = "quarantined"
	OutcomeAbandoned   = "abandoned"

	OutcomeOK      = "ok"
	OutcomeError   = "error"
	OutcomeTimeout = "timeout"
	OutcomeExpired = "expired"
	OutcomeMisfit  = "misfit"

	OutcomeFailed  = "failed"
	OutcomePartial = "partial"
)

func declared(name, who string) Label { return Label{Name: name, Declared: who} }

func closed(name string, values ...string) Label { return Label{Name: name, Values: values} }

// The rows: one metric each.
func table() [names]Metric { //nolint:funlen // one row a metric
	var (
		camera   = declared("camera", "cameras of sightline.yaml")
		model    = declared("model", "models of the repository")
		version  = declared("version", "versions of the model")
		class    = declared("class", "classes of the model")
		instance = declared("service", "services that lead or work")
		stream   = declared("stream", "work streams of package streams")
		consumer = declared("consumer", "work groups: preprocess, and one for each model and lane")
		stage    = closed("stage", StageIngest, StagePreprocess, StageInfer)
		fate     = closed("fate", "superseded", "expired", "quarantined")
		lane     = closed("lane", string(streams.LaneStable), string(streams.LaneCanary), string(streams.LaneShadow))
		delivery = closed("delivery", string(streams.Freshest), string(streams.EveryFrame))
		reason   = closed("reason", "max_age", "old_epoch", "model_changed", "ingest_backlog", "refused_by_broker", "broker_away", "handler", "condition")
		cause    = closed("cause", "auth", "refused", "timeout", "not_found", "codec", "stalled", "damaged", "tls", "closed", "protocol", "config", "canceled", "unknown")
		feature  = declared("feature", "features of package drift")
		test     = declared("test", "tests of package drift")
		sliceBy  = declared("slice_by", "slices of package drift, and labels of cameras")
		action   = closed("action", "worker_dead", "worker_returned", "worker_reconnected", "leases_freed", "leader", "sampling", "reaction",
			"repair_create", "repair_create_elsewhere", "repair_update", "repair_declare_again", "repair_leader_step_down", "repair_delete_and_create", "repair_none")
		device = declared("device", "devices of the machine")
		gpu    = []Label{declared("gpu", "GPUs of the machine"), declared("UUID", "GPUs of the machine"), declared("modelName", "GPUs of the machine")}
	)
	m := [names]Metric{
		FramesReceived:       {Name: "frames_received_total", Kind: KindCounter, Unit: "{frame}", Labels: []Label{camera}, From: "ingest", Help: "Pictures decoded, before sampling."},
		FramesCaptured:       {Name: "frames_captured_total", Kind: KindCounter, Unit: "{frame}", Labels: []Label{camera}, From: "ingest", Help: "Pictures that were sampled, coded and given a name: each has a fate from then on."},
		FramesPublished:      {Name: "frames_published_total", Kind: KindCounter, Unit: "{frame}", Labels: []Label{camera}, From: "ingest", Help: "Captured frames that the broker stored."},
		FramesDropped:        {Name: "frames_dropped_total", Kind: KindCounter, Unit: "{frame}", Labels: []Label{camera, stage, fate, reason}, From: "ingest, preprocess, infer", Help: "Frames that ended without an answer, as told by the stage that ended them. What a live ring evicts shows in frames_fate_total."},
		FramesPredicted:      {Name: "frames_predicted_total", Kind: KindCounter, Unit: "{frame}", Labels: []Label{camera, model}, From: "infer", Help: "Frames whose prediction was stored."},
		FramesFate:           {Name: "frames_fate_total", Kind: KindCounter, Unit: "{frame}", Labels: []Label{camera, model, closed("fate", "captured", "predicted", "superseded", "expired", "quarantined", "lost")}, From: "recovery's leader", Help: "The books: what became of captured frames. captured is the sum of all fates and what is in flight."},
		FramesInFlight:       {Name: "frames_in_flight", Kind: KindGauge, Unit: "{frame}", Labels: []Label{camera, model}, From: "recovery's leader", Help: "The books: captured frames without a fate yet."},
		FrameInterval:        {Name: "frame_interval_seconds", Kind: KindHistogram, Unit: "s", Labels: []Label{camera}, Buckets: intervals(), From: "ingest", Help: "Time between two pictures of a camera, before sampling."},
		FrameAge:             {Name: "frame_age_seconds", Kind: KindHistogram, Unit: "s", Labels: []Label{stage, delivery}, Buckets: ages(), From: "ingest, preprocess, infer", Help: "Age of a frame when a stage's output of it was stored: from capture to then."},
		DecodeErrors:         {Name: "decode_errors_total", Kind: KindCounter, Unit: "{error}", Labels: []Label{camera}, From: "ingest", Help: "Coded pictures that the decoder refused or had to conceal errors in."},
		Reconnects:           {Name: "reconnects_total", Kind: KindCounter, Unit: "{reconnect}", Labels: []Label{camera, cause}, From: "ingest", Help: "Connections to a camera that failed, by cause."},
		CameraUp:             {Name: "camera_up", Kind: KindGauge, Unit: "1", Labels: []Label{camera}, From: "ingest", Help: "1 while pictures of the camera arrive at its owner."},
		CameraLastFrame:      {Name: "camera_last_frame_timestamp_seconds", Kind: KindGauge, Unit: "s", Labels: []Label{camera}, From: "ingest", Help: "When the camera's last picture arrived, as Unix time."},
		CameraSampling:       {Name: "camera_sampling_ratio", Kind: KindGauge, Unit: "1", Labels: []Label{camera}, From: "ingest", Help: "Share of the wanted rate that is captured: below 1 while workers cannot keep up."},
		OutboxFrames:         {Name: "outbox_frames", Kind: KindGauge, Unit: "{frame}", Labels: []Label{camera}, From: "ingest", Help: "Captured frames that wait for the broker."},
		OutboxDropped:        {Name: "outbox_dropped_total", Kind: KindCounter, Unit: "{frame}", Labels: []Label{camera}, From: "ingest", Help: "Captured frames that were never published, for any reason."},
		StageDuration:        {Name: "stage_duration_seconds", Kind: KindHistogram, Unit: "s", Labels: []Label{stage, closed("phase", PhaseQueue, PhaseWork, PhasePublish)}, Buckets: seconds(), From: "ingest, preprocess, infer", Help: "Time that a message spends in a stage: waiting for a handler, in it (with its batch), and until its outputs are stored."},
		StageMessages:        {Name: "stage_messages_total", Kind: KindCounter, Unit: "{message}", Labels: []Label{stage, closed("outcome", OutcomeDone, OutcomeDropped, OutcomeRetried, OutcomeQuarantined, OutcomeAbandoned)}, From: "preprocess, infer", Help: "Deliveries by what came of them."},
		Redeliveries:         {Name: "redeliveries_total", Kind: KindCounter, Unit: "{message}", Labels: []Label{stage}, From: "preprocess, infer", Help: "Deliveries of a message after its first."},
		DuplicatesSuppressed: {Name: "duplicates_suppressed_total", Kind: KindCounter, Unit: "{message}", Labels: []Label{stage}, From: "ingest, preprocess, infer", Help: "Outputs that their stream had already: a repeat that changed nothing."},
		DeadLetters:          {Name: "dead_letters_total", Kind: KindCounter, Unit: "{message}", Labels: []Label{stage}, From: "preprocess, infer", Help: "Messages that were put into quarantine (stream DLQ)."},
		PublishErrors:        {Name: "publish_errors_total", Kind: KindCounter, Unit: "{error}", Labels: []Label{stage}, From: "ingest, preprocess, infer", Help: "Attempts to publish that failed and were repeated."},
		QueueDepth:           {Name: "queue_depth", Kind: KindGauge, Unit: "{message}", Labels: []Label{stream, consumer}, From: "recovery's leader", Help: "Messages that wait for a worker."},
		QueueInFlight:        {Name: "queue_in_flight", Kind: KindGauge, Unit: "{message}", Labels: []Label{stream, consumer}, From: "recovery's leader", Help: "Messages that workers have and have not acknowledged."},
		QueueRedelivered:     {Name: "queue_redelivered", Kind: KindGauge, Unit: "{message}", Labels: []Label{stream, consumer}, From: "recovery's leader", Help: "Messages in flight that were delivered before."},
		LastPrediction:       {Name: "last_prediction_timestamp_seconds", Kind: KindGauge, Unit: "s", Labels: []Label{camera, model}, From: "infer", Help: "When a prediction of the camera was stored last, as Unix time."},

		InferenceRequests:  {Name: "inference_requests_total", Kind: KindCounter, Unit: "{request}", Labels: []Label{model, version, lane, closed("outcome", OutcomeOK, OutcomeError, OutcomeTimeout, OutcomeExpired, OutcomeMisfit)}, From: "infer", Help: "Tensors that a model was asked about, by what came of it. expired and misfit were not run."},
		InferenceDuration:  {Name: "inference_duration_seconds", Kind: KindHistogram, Unit: "s", Labels: []Label{model, version, lane}, Buckets: seconds(), From: "infer", Help: "Time of one run of a model, with its batch, normalising and decoding."},
		InferenceBatchSize: {Name: "inference_batch_size", Kind: KindHistogram, Unit: "{tensor}", Labels: []Label{model, version, lane}, Buckets: sizes(), From: "infer", Help: "Tensors in one run of a model."},
		Detections:         {Name: "detections_total", Kind: KindCounter, Unit: "{detection}", Labels: []Label{model, version, class}, From: "infer", Help: "Objects in predictions, by class."},
		DetectionsPerFrame: {Name: "detections_per_frame", Kind: KindHistogram, Unit: "{detection}", Labels: []Label{model, version}, Buckets: counts(), From: "infer", Help: "Objects in one prediction."},
		DetectionScore:     {Name: "detection_score", Kind: KindHistogram, Unit: "1", Labels: []Label{model, version}, Buckets: scores(), From: "infer", Help: "Scores of objects in predictions."},
		ModelLoaded:        {Name: "model_loaded", Kind: KindGauge, Unit: "1", Labels: []Label{model, version, lane}, From: "infer", Help: "1 while this process serves the version of the model."},
		ModelsRefused:      {Name: "models_refused_total", Kind: KindCounter, Unit: "{refusal}", Labels: []Label{model}, From: "infer", Help: "Times that a version of the model could not be loaded, or failed its checks."},

		DriftState:                {Name: "drift_state", Kind: KindGauge, Unit: "1", Labels: []Label{camera, model}, From: "drift-monitor's leader", Help: "0 ok, 1 data_drift, 2 suspected_loss, 3 not_enough_data."},
		DriftScore:                {Name: "drift_score", Kind: KindGauge, Unit: "1", Labels: []Label{camera, model, feature, test}, From: "drift-monitor's leader", Help: "Distance of a feature's window from the reference."},
		DriftThreshold:            {Name: "drift_threshold", Kind: KindGauge, Unit: "1", Labels: []Label{camera, model, feature, test}, From: "drift-monitor's leader", Help: "Score above which the feature counts as drifted, learnt from the reference."},
		DriftEffectiveSamples:     {Name: "drift_effective_samples", Kind: KindGauge, Unit: "{sample}", Labels: []Label{camera, model}, From: "drift-monitor's leader", Help: "Independent samples in the window."},
		IntegrityFault:            {Name: "integrity_fault", Kind: KindGauge, Unit: "1", Labels: []Label{camera, closed("fault", "frozen", "black", "covered", "defocused", "rotated", "flipped", "shifted", "clock", "fps")}, From: "drift-monitor's leader", Help: "1 while the camera has the fault."},
		QualityPrecision:          {Name: "quality_precision", Kind: KindGauge, Unit: "1", Labels: []Label{camera, model, closed("source", "labels", "scores")}, From: "drift-monitor's leader", Help: "Precision in the window, measured with labels or estimated from calibrated scores."},
		QualityRecall:             {Name: "quality_recall", Kind: KindGauge, Unit: "1", Labels: []Label{camera, model}, From: "drift-monitor's leader", Help: "Recall in the window, measured with labels."},
		QualityAP50:               {Name: "quality_ap50", Kind: KindGauge, Unit: "1", Labels: []Label{camera, model}, From: "drift-monitor's leader", Help: "Average precision at IoU 0.5 in the window, measured with labels."},
		QualityDetectionRateRatio: {Name: "quality_detection_rate_ratio", Kind: KindGauge, Unit: "1", Labels: []Label{camera, model}, From: "drift-monitor's leader", Help: "Detections per frame against those of the same hour in the reference."},
		FairnessGap:               {Name: "fairness_gap", Kind: KindGauge, Unit: "1", Labels: []Label{model, declared("metric", "metrics of package drift"), sliceBy}, From: "drift-monitor's leader", Help: "Largest difference of a quality metric between two slices."},
		FairnessRatio:             {Name: "fairness_ratio", Kind: KindGauge, Unit: "1", Labels: []Label{model, declared("metric", "metrics of package drift"), sliceBy}, From: "drift-monitor's leader", Help: "Worst slice's quality metric against the best slice's."},

		RecoveryActions:  {Name: "recovery_actions_total", Kind: KindCounter, Unit: "{action}", Labels: []Label{action, closed("outcome", OutcomeDone, OutcomePartial, OutcomeFailed)}, From: "recovery's leader", Help: "What recovery did, and what came of it."},
		RecoveryDuration: {Name: "recovery_duration_seconds", Kind: KindHistogram, Unit: "s", Labels: []Label{action}, Buckets: append([]float64{.0001, .0005}, append(seconds(), 30, 60)...), From: "recovery's leader", Help: "How long it took."},
		Leader:           {Name: "leader", Kind: KindGauge, Unit: "1", Labels: []Label{instance}, From: "recovery", Help: "1 at the replica that leads, 0 at those that stand by."},
		Workers:          {Name: "workers", Kind: KindGauge, Unit: "{process}", Labels: []Label{instance, closed("state", "alive", "dead")}, From: "recovery's leader", Help: "Processes by what the leader thinks of them."},

		RolloutState:       {Name: "rollout_state", Kind: KindGauge, Unit: "1", Labels: []Label{model}, From: "reserved", Help: "State of the model's rollout."},
		RolloutWeightRatio: {Name: "rollout_weight_ratio", Kind: KindGauge, Unit: "1", Labels: []Label{model, version}, From: "reserved", Help: "Share of traffic that a version gets."},
		Rollbacks:          {Name: "rollbacks_total", Kind: KindCounter, Unit: "{rollback}", Labels: []Label{model}, From: "reserved", Help: "Rollouts that were taken back."},

		TracesKept:        {Name: "traces_kept_total", Kind: KindCounter, Unit: "{trace}", Labels: []Label{closed("why", "slow", "failed", "quarantined", "heard")}, From: "every process with OTLP", Help: "Unsampled traces that are exported all the same, and why; heard: another process asked for it."},
		TraceSpansDropped: {Name: "trace_spans_dropped_total", Kind: KindCounter, Unit: "{span}", From: "every process with OTLP", Help: "Spans that should have been exported and could not be."},
		TelemetryExports:  {Name: "telemetry_exports_total", Kind: KindCounter, Unit: "{export}", Labels: []Label{closed("signal", "traces", "metrics"), closed("outcome", OutcomeOK, OutcomeError)}, From: "every process with OTLP", Help: "Exports to the collector."},

		BuildInfo:               {Name: "build_info", Kind: KindGauge, Unit: "1", Labels: []Label{declared("version", "the build"), declared("revision", "the build"), declared("go", "the build")}, From: "every process", Help: "1; its labels say what runs."},
		ProcessCPU:              {Name: "process_cpu_seconds_total", Kind: KindCounter, Unit: "s", From: "every process", Help: "CPU time of the process, user and system."},
		ProcessMemory:           {Name: "process_resident_memory_bytes", Kind: KindGauge, Unit: "By", From: "every process", Help: "Resident memory of the process."},
		ProcessOpenFDs:          {Name: "process_open_fds", Kind: KindGauge, Unit: "{file}", From: "every process", Help: "Open file descriptors."},
		ProcessStart:            {Name: "process_start_time_seconds", Kind: KindGauge, Unit: "s", From: "every process", Help: "When the process started, as Unix time."},
		ProcessThreads:          {Name: "process_threads", Kind: KindGauge, Unit: "{thread}", From: "every process", Help: "Threads of the process, those of native libraries included."},
		GoGoroutines:            {Name: "go_goroutines", Kind: KindGauge, Unit: "{goroutine}", From: "every process", Help: "Goroutines."},
		GoHeapObjects:           {Name: "go_memstats_heap_alloc_bytes", Kind: KindGauge, Unit: "By", From: "every process", Help: "Heap in use, dead objects that were not collected yet included."},
		GoHeapGoal:              {Name: "go_memstats_next_gc_bytes", Kind: KindGauge, Unit: "By", From: "every process", Help: "Heap at which the next collection ends."},
		GoMemory:                {Name: "go_memstats_sys_bytes", Kind: KindGauge, Unit: "By", From: "every process", Help: "Memory that the Go runtime has from the system."},
		GoAllocated:             {Name: "go_memstats_alloc_bytes_total", Kind: KindCounter, Unit: "By", From: "every process", Help: "Bytes allocated on the heap so far."},
		GoGCCycles:              {Name: "go_gc_cycles_total", Kind: KindCounter, Unit: "{cycle}", From: "every process", Help: "Garbage collections."},
		GoMaxProcs:              {Name: "go_sched_gomaxprocs_threads", Kind: KindGauge, Unit: "{thread}", From: "every process", Help: "GOMAXPROCS."},
		HostCPU:                 {Name: "host_cpu_seconds_total", Kind: KindCounter, Unit: "s", Labels: []Label{closed("mode", "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")}, From: "every process", Help: "CPU time of the machine, over all CPUs."},
		HostMemoryTotal:         {Name: "host_memory_total_bytes", Kind: KindGauge, Unit: "By", From: "every process", Help: "Memory of the machine."},
		HostMemoryAvailable:     {Name: "host_memory_available_bytes", Kind: KindGauge, Unit: "By", From: "every process", Help: "Memory of the machine that could be had without swapping."},
		HostNetworkReceived:     {Name: "host_network_receive_bytes_total", Kind: KindCounter, Unit: "By", Labels: []Label{device}, From: "every process", Help: "Bytes received; in a container those of its own interfaces."},
		HostNetworkTransmitted:  {Name: "host_network_transmit_bytes_total", Kind: KindCounter, Unit: "By", Labels: []Label{device}, From: "every process", Help: "Bytes sent; in a container those of its own interfaces."},
		HostDiskRead:            {Name: "host_disk_read_bytes_total", Kind: KindCounter, Unit: "By", Labels: []Label{device}, From: "every process", Help: "Bytes read from a disk."},
		HostDiskWritten:         {Name: "host_disk_written_bytes_total", Kind: KindCounter, Unit: "By", Labels: []Label{device}, From: "every process", Help: "Bytes written to a disk."},
		HostFilesystemSize:      {Name: "host_filesystem_size_bytes", Kind: KindGauge, Unit: "By", Labels: []Label{closed("mountpoint", "data")}, From: "sightline up", Help: "Size of the file system that holds the process's own state."},
		HostFilesystemAvailable: {Name: "host_filesystem_available_bytes", Kind: KindGauge, Unit: "By", Labels: []Label{closed("mountpoint", "data")}, From: "sightline up", Help: "Room in the file system that holds the process's own state."},

		GPUSMClock:            {Name: "DCGM_FI_DEV_SM_CLOCK", Kind: KindGauge, Unit: "MHz", Labels: gpu, From: "infer", Help: "SM clock, MHz."},
		GPUMemClock:           {Name: "DCGM_FI_DEV_MEM_CLOCK", Kind: KindGauge, Unit: "MHz", Labels: gpu, From: "infer", Help: "Memory clock, MHz."},
		GPUTemperature:        {Name: "DCGM_FI_DEV_GPU_TEMP", Kind: KindGauge, Unit: "Cel", Labels: gpu, From: "infer", Help: "Temperature of the GPU, degrees Celsius."},
		GPUPower:              {Name: "DCGM_FI_DEV_POWER_USAGE", Kind: KindGauge, Unit: "W", Labels: gpu, From: "infer", Help: "Power draw, watts."},
		GPUEnergy:             {Name: "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", Kind: KindCounter, Unit: "mJ", Labels: gpu, From: "infer", Help: "Energy since the driver was loaded, millijoules."},
		GPUUtilization:        {Name: "DCGM_FI_DEV_GPU_UTIL", Kind: KindGauge, Unit: "%", Labels: gpu, From: "infer", Help: "Share of time that kernels ran, per cent."},
		GPUMemCopyUtilization: {Name: "DCGM_FI_DEV_MEM_COPY_UTIL", Kind: KindGauge, Unit: "%", Labels: gpu, From: "infer", Help: "Share of time that memory was read or written, per cent."},
		GPUEncUtilization:     {Name: "DCGM_FI_DEV_ENC_UTIL", Kind: KindGauge, Unit: "%", Labels: gpu, From: "infer", Help: "Use of the encoder, per cent."},
		GPUDecUtilization:     {Name: "DCGM_FI_DEV_DEC_UTIL", Kind: KindGauge, Unit: "%", Labels: gpu, From: "infer", Help: "Use of the decoder, per cent."},
		GPUMemFree:            {Name: "DCGM_FI_DEV_FB_FREE", Kind: KindGauge, Unit: "MiBy", Labels: gpu, From: "infer", Help: "Free memory, MiB."},
		GPUMemUsed:            {Name: "DCGM_FI_DEV_FB_USED", Kind: KindGauge, Unit: "MiBy", Labels: gpu, From: "infer", Help: "Used memory, MiB."},
		GPUMemReserved:        {Name: "DCGM_FI_DEV_FB_RESERVED", Kind: KindGauge, Unit: "MiBy", Labels: gpu, From: "infer", Help: "Memory that the driver keeps, MiB."},
		GPUPCIeReplays:        {Name: "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", Kind: KindCounter, Unit: "{replay}", Labels: gpu, From: "infer", Help: "Repeated transmissions on PCIe."},
	}
	for i := range m {
		if !slices.Contains(commonNames(), Name(i)) && i < int(GPUSMClock) {
			m[i].Name = Prefix + m[i].Name
		}
	}
	return m
}

// commonNames are the metrics that are called what everybody calls them.
func commonNames() []Name {
	return []Name{
		ProcessCPU, ProcessMemory, ProcessOpenFDs, ProcessStart, ProcessThreads,
		GoGoroutines, GoHeapObjects, GoHeapGoal, GoMemory, GoAllocated, GoGCCycles, GoMaxProcs,
	}
}
