package streams

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Lane says who may act on a model's answers.
type Lane string

// The lanes of a model. Only the stable lane exists until rollouts are declared.
const (
	LaneStable Lane = "stable"
	LaneCanary Lane = "canary"
	LaneShadow Lane = "shadow"
)

// Delivery says what a camera's frames are for.
type Delivery string

// Freshest: late is wrong, the newest frame wins. EveryFrame: evidence, nothing is dropped.
const (
	Freshest   Delivery = "freshest"
	EveryFrame Delivery = "every_frame"
)

// route is the subject token of a delivery.
func (d Delivery) route() string {
	if d == EveryFrame {
		return "every"
	}
	return "live"
}

var token = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// CheckToken reports why name cannot be a camera, model or instance name: it must also be a subject token, a
// metric label and a file name.
func CheckToken(name string) error {
	if !token.MatchString(name) {
		return fmt.Errorf("%q is not a name: use 1 to 63 letters, digits, '-' or '_', starting with a letter or digit", name)
	}
	return nil
}

// FrameSubject is where ingest publishes a camera's frames.
func FrameSubject(d Delivery, camera string) string { return "frames." + d.route() + "." + camera }

// Twin is the subject of the stream that takes the place of a live one while its node of the broker is away.
func Twin(subject string) (string, bool) {
	for _, kind := range []string{"frames.", "tensors."} {
		if rest, ok := strings.CutPrefix(subject, kind+"live."); ok {
			return kind + "twin." + rest, true
		}
	}
	return "", false
}

// TensorSubject is where preprocess publishes a model's input.
func TensorSubject(d Delivery, model string, lane Lane, camera string) string {
	return "tensors." + d.route() + "." + model + "." + string(lane) + "." + camera
}

// PredictionSubject is what downstream applications subscribe to. Either argument may be "*".
func PredictionSubject(model, camera string) string { return "predictions." + model + "." + camera }

// EventSubject is where something that happened is told: area "camera", kind "state", name of the camera.
func EventSubject(area, kind, name string) string { return "events." + area + "." + kind + "." + name }

// LedgerSubject carries the fates of a camera's frames.
func LedgerSubject(camera string) string { return "ledger." + camera }

// FeedbackSubject is where applications and people say what was really in a camera's frames.
func FeedbackSubject(camera string) string { return "feedback." + camera }

// IncidentSubject carries what befell more than one camera and what the books must know of: a worker that died, a
// stream that was purged. It is a subject of LEDGER; no camera has such a name.
const IncidentSubject = "ledger._incidents"

// DisconnectSubject is where the broker tells of connections that ended, in deployments that import
// $SYS.ACCOUNT.<account>.DISCONNECT under this name.
const DisconnectSubject = "sightline.sys.disconnect"

// KeepTraceSubject is where a process says the trace id of a frame that was slow, failed or was quarantined: every process
// then exports what it has of that trace. It is not stored; who does not hear it has nothing to export.
const KeepTraceSubject = "sightline.traces.keep"

// InboxPrefix begins the subjects on which the broker answers a user. Each user of the broker has its own and may listen to no
// other's: answers are as secret as what was asked for.
func InboxPrefix(user string) string { return "_INBOX_" + user }

// AckSubject is where a message of a work group is acknowledged, or handed back, by somebody who did not receive it.
// delivered is a delivery of the consumer that is not before the message's last one: the consumer sequence that its info
// says was delivered last. A worker that received the message before can still acknowledge it too: the broker does
// not tell them apart.
func AckSubject(stream, consumer string, sequence, delivered uint64) string {
	return "$JS.ACK." + stream + "." + consumer + ".1." + strconv.FormatUint(sequence, 10) + "." + strconv.FormatUint(delivered, 10) + ".0.0"
}

// DLQSubject is where a stage puts what it could not handle.
func DLQSubject(stage, camera string) string { return "dlq." + stage + "." + camera }

// DeliveryOf tells the delivery of a frame or tensor subject.
func DeliveryOf(subject string) Delivery {
	if parts := strings.Split(subject, "."); len(parts) > 1 && parts[1] == EveryFrame.route() {
		return EveryFrame
	}
	return Freshest
}

// Template says where a subject leads without what differs from one camera to the next, and what that is:
// "frames.live" and "frames.live.{camera}".
func Template(subject string) (name, template string) {
	kind, rest, _ := strings.Cut(subject, ".")
	second, _, _ := strings.Cut(rest, ".")
	switch name = kind + "." + second; kind {
	case "frames", "dlq":
		return name, name + ".{camera}"
	case "tensors":
		return name, name + ".{model}.{lane}.{camera}"
	case "predictions":
		return kind, kind + ".{model}.{camera}"
	default:
		return kind, kind
	}
}

// LastToken is the last token of a subject: the camera of a frame, tensor or prediction.
func LastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
