package streams

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Difference is a field in which something is not as declared.
type Difference struct {
	Field      string // as the server calls it
	Want, Have string
	// Fixed says that no update changes the field: what has it must be deleted and made anew.
	Fixed bool
}

func (d Difference) String() string { return d.Field + " is " + d.Have + ", want " + d.Want }

// Declared are the configurations of all streams, those that hold buckets included, by name.
func Declared(o Options) map[string]jetstream.StreamConfig {
	out := map[string]jetstream.StreamConfig{}
	for _, cfg := range Streams(o) {
		out[cfg.Name] = cfg
	}
	for _, b := range Buckets(o) {
		cfg := bucketStream(b)
		out[cfg.Name] = cfg
	}
	return out
}

const bucketPrefix = "KV_"

// BucketOf is the bucket that a stream holds.
func BucketOf(stream string) (string, bool) { return strings.CutPrefix(stream, bucketPrefix) }

// bucketStream is the stream that nats.go makes of a bucket. A test holds it to that.
func bucketStream(b jetstream.KeyValueConfig) jetstream.StreamConfig {
	const dedupe = 2 * time.Minute
	cfg := jetstream.StreamConfig{
		Name: bucketPrefix + b.Bucket, Description: b.Description, Subjects: []string{"$KV." + b.Bucket + ".>"},
		MaxMsgsPerSubject: int64(max(b.History, 1)), MaxBytes: b.MaxBytes, MaxAge: b.TTL, Storage: b.Storage, Replicas: max(b.Replicas, 1),
		AllowRollup: true, DenyDelete: true, AllowDirect: true, Discard: jetstream.DiscardNew, Duplicates: dedupe,
		AllowMsgTTL: b.LimitMarkerTTL > 0, SubjectDeleteMarkerTTL: b.LimitMarkerTTL,
	}
	if b.TTL > 0 {
		cfg.Duplicates = min(b.TTL, dedupe)
	}
	return cfg
}

// Differences are the fields in which a stream is not as declared. What has no say in what the stream promises, such as
// its description, and what an operator may choose, such as its place, is not compared.
func Differences(want, have jetstream.StreamConfig) []Difference {
	want, have = plainStream(want), plainStream(have)
	return compare(want, have, func(field string) bool {
		switch field {
		case "Storage", "PersistMode", "AllowMsgCounter":
			return true
		case "Retention":
			return want.Retention == jetstream.WorkQueuePolicy || have.Retention == jetstream.WorkQueuePolicy
		case "Sealed", "DenyDelete", "DenyPurge", "AllowMsgTTL", "AllowMsgSchedules":
			return reflect.ValueOf(have).FieldByName(field).Bool() // these can be set, but not taken back
		}
		return false
	})
}

// plainStream writes what the server takes for the same in one way.
func plainStream(c jetstream.StreamConfig) jetstream.StreamConfig {
	c.MaxConsumers, c.MaxMsgs, c.MaxBytes = max(c.MaxConsumers, 0), max(c.MaxMsgs, 0), max(c.MaxBytes, 0)
	c.MaxMsgsPerSubject, c.MaxMsgSize = max(c.MaxMsgsPerSubject, 0), max(c.MaxMsgSize, 0)
	c.Replicas = max(c.Replicas, 1)
	c.Name, c.Description, c.Placement, c.Metadata, c.Template, c.FirstSeq = "", "", nil, nil, "", 0
	return c
}

// mendable is a declaration with everything left as it is that no update can change, that shall be kept, or that is the
// operator's.
func mendable(want, have jetstream.StreamConfig, keep []string) jetstream.StreamConfig {
	keep = slices.Clone(keep)
	for _, d := range Differences(want, have) {
		if d.Fixed {
			keep = append(keep, d.Field)
		}
	}
	keepFields(&want, have, keep)
	want.Placement = have.Placement
	want.Metadata = maps.Clone(have.Metadata)
	maps.DeleteFunc(want.Metadata, func(k, _ string) bool { return strings.HasPrefix(k, "_nats.") }) // the server's own
	return want
}

// keepFields sets fields to what they are.
func keepFields(want *jetstream.StreamConfig, have jetstream.StreamConfig, fields []string) {
	w, h := reflect.ValueOf(want).Elem(), reflect.ValueOf(have)
	for _, field := range fields {
		i := fieldOf(w.Type(), field)
		w.Field(i).Set(h.Field(i))
	}
}

// ConsumerDifferences are the fields in which a consumer is not as declared.
func ConsumerDifferences(want, have jetstream.ConsumerConfig) []Difference {
	return compare(plainConsumer(want), plainConsumer(have), func(field string) bool {
		switch field {
		case "DeliverPolicy", "OptStartSeq", "OptStartTime", "AckPolicy", "ReplayPolicy", "MaxWaiting", "MemoryStorage",
			"IdleHeartbeat", "FlowControl", "DeliverSubject", "DeliverGroup":
			return true
		}
		return false
	})
}

// plainConsumer writes what the server takes for the same in one way.
func plainConsumer(c jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	const pulls, pending, wait = 512, 1000, 30 * time.Second // the server's defaults
	if c.AckWait == 0 {
		c.AckWait = wait
	}
	if c.MaxDeliver <= 0 {
		c.MaxDeliver = -1
	}
	if c.MaxAckPending == 0 {
		c.MaxAckPending = pending
	}
	if c.MaxWaiting == 0 && c.DeliverSubject == "" {
		c.MaxWaiting = pulls
	}
	if len(c.FilterSubjects) == 1 && c.FilterSubject == "" {
		c.FilterSubject, c.FilterSubjects = c.FilterSubjects[0], nil
	}
	if c.PauseUntil != nil && !c.PauseUntil.After(time.Now()) {
		c.PauseUntil = nil
	}
	c.Name, c.Description, c.Metadata = "", "", nil
	return c
}

// compare is Differences for any configuration.
func compare[T any](want, have T, fixed func(field string) bool) []Difference {
	var out []Difference
	w, h := reflect.ValueOf(want), reflect.ValueOf(have)
	for i := range w.NumField() {
		f := w.Type().Field(i)
		if same(w.Field(i), h.Field(i)) {
			continue
		}
		out = append(out, Difference{Field: wireName(f), Want: text(w.Field(i)), Have: text(h.Field(i)), Fixed: fixed(f.Name)})
	}
	return out
}

func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func text(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return "none"
		}
		v = v.Elem()
	}
	return fmt.Sprint(v.Interface())
}

func wireName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func fieldOf(t reflect.Type, name string) int {
	for i := range t.NumField() {
		if wireName(t.Field(i)) == name {
			return i
		}
	}
	return -1
}
