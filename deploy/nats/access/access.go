// Package access says what each user of the broker may do: which subjects it may publish and which it may listen to, and
// nothing beside that. The subjects are made of the names in package streams.
//
// deploy/nats/users.conf is generated from it (go generate); a test says when it is stale, others try what is allowed and
// what is not on real servers.
//
// # What the broker does not check
//
// Whoever may ask for something also says where the answer goes, and the broker asks nobody whether the user might publish
// there. Within an account that is a way around the table: nats-server 2.15 obeys the answer to a direct get, or to a pull,
// that is sent to a subject of its API, and buckets store answers that are sent to their keys. The table therefore keeps services
// from what they do by mistake, and strangers out; a service that has been taken over can do more than it says. Applications are
// not trusted that far: they have an account of their own, which knows no other subjects than those of PREDICTIONS and feedback, so
// that an answer cannot go anywhere else. A test tries it.
package access

import (
	"maps"
	"slices"
	"strings"

	says "github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/streams"
)

//go:generate go run ../cmd/users -o ../users.conf

// User is a user of the broker. Subjects have wildcards as the broker knows them.
type User struct {
	Name string
	// Apart puts the user into the account of applications, which shares nothing with that of the services but what its users
	// may publish and listen to.
	Apart bool
	// Does says who has this user's key.
	Does string
	// Publish is what it may publish, except Never.
	Publish, Never []string
	// Subscribe is what it may listen to.
	Subscribe []string
}

// Variable is the environment variable in which a server finds the user's public key.
func (u User) Variable() string {
	return "SIGHTLINE_NKEY_" + strings.ToUpper(strings.ReplaceAll(u.Name, "-", "_"))
}

// The users.
const (
	Ingest     = "ingest"
	Preprocess = "preprocess"
	Infer      = "infer"
	Recovery   = "recovery"
	Drift      = "drift-monitor"
	App        = "app"
	Operator   = "operator"
)

// Users are all users.
func Users() []User {
	return []User{ingest(), preprocess(), infer(), recovery(), drift(), app(), operator()}
}

const (
	api      = "$JS.API."
	ack      = "$JS.ACK."
	flow     = "$JS.FC."
	advisory = "$JS.EVENT.ADVISORY."
	books    = "ledger.*"
)

func key(bucket, key string) string { return "$KV." + bucket + "." + key }

func held(bucket string) string { return "KV_" + bucket }

// service is what every service does: it looks whether all is declared, keeps its own entry in WORKERS, and tells the ledger
// and EVENTS what it sees.
func service(name, does string) User {
	self := key(streams.WorkersBucket, name+".*")
	u := User{
		Name: name, Does: does, Subscribe: []string{streams.InboxPrefix(name) + ".>", streams.KeepTraceSubject},
		Publish: []string{self, streams.KeepTraceSubject, last(held(streams.WorkersBucket), self), books, streams.EventSubject("worker", "*", "*")},
		Never:   []string{streams.IncidentSubject},
	}
	for _, s := range declared() {
		u.Publish = append(u.Publish, api+"STREAM.INFO."+s)
	}
	return u
}

// declared are the names of all streams, those that hold buckets included.
func declared() []string {
	return slices.Sorted(maps.Keys(streams.Declared(streams.Options{})))
}

// last is the call that gets the last message of a subject.
func last(stream, subject string) string { return api + "DIRECT.GET." + stream + "." + subject }

// get lets a user read entries of a bucket.
func (u *User) get(buckets ...string) {
	for _, b := range buckets {
		u.Publish = append(u.Publish, last(held(b), key(b, ">")))
	}
}

// watch lets a user follow a bucket, or list its keys, which is the same for a while.
func (u *User) watch(buckets ...string) {
	for _, b := range buckets {
		u.Publish = append(u.Publish,
			api+"CONSUMER.CREATE."+held(b)+".*."+key(b, ">"), api+"CONSUMER.DELETE."+held(b)+".*", flow+held(b)+".>")
	}
}

// follow is watch for a bucket with desired state: whoever has it made anew is heard.
func (u *User) follow(buckets ...string) {
	u.watch(buckets...)
	for _, b := range buckets {
		u.Subscribe = append(u.Subscribe, advisory+"STREAM.CREATED."+held(b))
	}
}

// read lets a user read streams with consumers of its own.
func (u *User) read(names ...string) {
	for _, s := range names {
		u.Publish = append(u.Publish, api+"CONSUMER.CREATE."+s+".>", api+"CONSUMER.INFO."+s+".*",
			api+"CONSUMER.MSG.NEXT."+s+".*", api+"CONSUMER.DELETE."+s+".*")
	}
}

// work lets a user take its share of work groups and note in STRIKES what came of messages.
func (u *User) work(groups []streams.WorkGroup) {
	for _, g := range groups {
		at := g.Stream + "." + g.Config.Durable
		u.Publish = append(u.Publish, api+"CONSUMER.CREATE."+at+"."+g.Config.FilterSubject, api+"CONSUMER.MSG.NEXT."+at, ack+at+".>",
			key(streams.StrikesBucket, g.Stream+".>"))
	}
	u.get(streams.StrikesBucket)
	u.Publish = append(u.Publish, streams.DLQSubject(u.Name, "*"))
}

func ingest() User {
	u := service(Ingest, "captures cameras")
	u.Publish = append(u.Publish,
		streams.FrameSubject(streams.Freshest, "*"), twin(streams.FrameSubject(streams.Freshest, "*")), streams.FrameSubject(streams.EveryFrame, "*"),
		streams.PredictionSubject("*", "*"), // gaps: nobody can see the camera
		streams.EventSubject("camera", "*", "*"),
		key(streams.LeasesBucket, "*"), // the recovery service's lease has two tokens
		last(streams.Events, streams.EventSubject("camera", "*", "*")), api+"DIRECT.GET."+streams.Events, last(streams.Ledger, books),
		last(streams.Predictions, streams.PredictionSubject("*", "*")))
	u.get(streams.LeasesBucket, streams.WorkersBucket)
	u.watch(streams.LeasesBucket, streams.WorkersBucket)
	u.follow(streams.CamerasBucket, streams.ModelsBucket, streams.SamplingBucket)
	u.Subscribe = append(u.Subscribe, key(streams.WorkersBucket, ">"))
	return u
}

func preprocess() User {
	u := service(Preprocess, "turns frames into model input")
	live := streams.TensorSubject(streams.Freshest, "*", "*", "*")
	u.Publish = append(u.Publish, live, twin(live), streams.TensorSubject(streams.EveryFrame, "*", "*", "*"))
	u.work(streams.PreprocessGroups())
	u.watch(streams.LeasesBucket)
	u.follow(streams.ModelsBucket)
	return u
}

func infer() User {
	u := service(Infer, "answers model input with predictions")
	u.Publish = append(u.Publish, streams.PredictionSubject("*", "*"), streams.EventSubject("model", "*", "*"))
	groups := streams.InferGroups("*", "*")
	for i := range groups {
		groups[i].Config.Durable = "*" // a wildcard is a whole token
	}
	u.work(groups)
	u.follow(streams.ModelsBucket, streams.ConditionsBucket)
	return u
}

func recovery() User {
	u := service(Recovery, "notices what fails and mends it")
	u.Never = nil                             // nobody else tells the books of deaths
	u.Publish = append(u.Publish, api+"INFO") // clients ask what the broker can do before they make a bucket
	for _, s := range declared() {
		u.Publish = append(u.Publish, api+"STREAM.CREATE."+s, api+"STREAM.UPDATE."+s)
	}
	for _, p := range streams.Pairs() { // what is in them can be done without
		for _, s := range []string{p.Live, p.Twin} {
			u.Publish = append(u.Publish, api+"STREAM.DELETE."+s, api+"STREAM.LEADER.STEPDOWN."+s)
		}
	}
	for _, s := range workStreams() {
		u.Publish = append(u.Publish, api+"CONSUMER.CREATE."+s+".>", api+"CONSUMER.INFO."+s+".*", api+"CONSUMER.DELETE."+s+".*",
			api+"CONSUMER.PAUSE."+s+".*", api+"CONSUMER.LEADER.STEPDOWN."+s+".*", ack+s+".>")
	}
	u.read(streams.Ledger, streams.Predictions, streams.DLQ)
	u.get(streams.LeasesBucket, streams.WorkersBucket, streams.BooksBucket, streams.SamplingBucket, streams.ConditionsBucket)
	u.watch(streams.LeasesBucket, streams.WorkersBucket, streams.BooksBucket, streams.ConditionsBucket)
	u.follow(streams.CamerasBucket, streams.ModelsBucket, streams.SamplingBucket, streams.DriftBucket)
	mine := streams.EventSubject("recovery", "*", ">")
	u.Publish = append(u.Publish, mine, last(streams.Events, mine),
		key(streams.LeasesBucket, ">"), key(streams.WorkersBucket, ">"), key(streams.SamplingBucket, ">"), key(streams.BooksBucket, ">"), key(streams.ConditionsBucket, ">"))
	u.Subscribe = append(u.Subscribe, key(streams.WorkersBucket, ">"), streams.DisconnectSubject, mine,
		advisory+"API", advisory+"STREAM.DELETED.*", advisory+"STREAM.UPDATED.*", advisory+"CONSUMER.DELETED.*.*", advisory+"CONSUMER.PAUSE.*.*")
	return u
}

// drift is for the drift-monitor: it reads answers, feedback and events, and writes what it makes of them.
func drift() User {
	u := service(Drift, "watches pictures, answers and cameras for drift and faults")
	mine := streams.EventSubject("drift", "*", "*")
	u.Publish = append(u.Publish, mine, last(streams.Events, mine),
		key(streams.LeasesBucket, "service."+Drift), key(streams.DriftBucket, ">"), key(streams.ReferencesBucket, ">"))
	u.read(streams.Predictions, streams.Feedback, streams.Events)
	u.Publish = append(u.Publish, api+"DIRECT.GET."+streams.Predictions) // the answer that feedback is about
	u.get(streams.LeasesBucket, streams.DriftBucket, streams.ReferencesBucket)
	u.watch(streams.DriftBucket)
	u.follow(streams.CamerasBucket, streams.ModelsBucket, streams.ReferencesBucket)
	return u
}

// workStreams are the streams that have work groups.
func workStreams() []string {
	groups := streams.WorkGroups("*", "*")
	out := make([]string, len(groups))
	for i, g := range groups {
		out[i] = g.Stream
	}
	return out
}

// app is for whoever reads predictions, says what was right about them, and nothing else, in any way that docs/predictions.md shows. Its consumers are pull
// consumers: what the broker pushes does not leave the account of the services.
func app() User {
	s := streams.Predictions
	u := User{
		Name: App, Apart: true, Does: "reads predictions and gives feedback, for applications",
		Subscribe: []string{streams.InboxPrefix(App) + ".>", "predictions.>"},
		Publish: []string{
			api + "INFO", api + "STREAM.INFO." + s, // clients of other languages ask before they begin
			api + "CONSUMER.DURABLE.CREATE." + s + ".*",
			api + "DIRECT.GET." + s, api + "DIRECT.GET." + s + ".>", ack + s + ".>",
			streams.FeedbackSubject("*"),
		},
	}
	u.read(s)
	return u
}

// operator is for people and for `sightline`. It may do anything to streams and consumers, but not speak for services: it
// forges no answer, no book, no lease and no acknowledgement.
func operator() User {
	return User{
		Name: Operator, Does: "declares, looks at and mends everything, for the command line",
		Publish: []string{
			api + ">", flow + ">", key(streams.CamerasBucket, ">"), key(streams.ModelsBucket, ">"),
			"frames.>", "tensors.>", // what a dead letter becomes when it is replayed
			books, streams.EventSubject("dlq", "*", "*"), streams.FeedbackSubject("*"), key(streams.ReferencesBucket, says.RequestPrefix+".>"),
		},
		Never: []string{streams.IncidentSubject},
		Subscribe: []string{
			streams.InboxPrefix(Operator) + ".>", "frames.>", "tensors.>", "predictions.>", "events.>", "ledger.>", "dlq.>", "feedback.>",
			"$KV.>", "$JS.EVENT.>",
		},
	}
}

// twin is the subject of the stream that takes another one's place.
func twin(subject string) string {
	t, _ := streams.Twin(subject)
	return t
}
