package access_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/deploy/nats/access"
	"github.com/sightline-dev/sightline/deploy/nats/secrets"
	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/streams"
)

func TestTheFragmentIsGenerated(t *testing.T) {
	have, err := os.ReadFile("../users.conf")
	if err != nil || string(have) != access.Conf(access.Users()) {
		t.Errorf("users.conf is stale: run make generate (%v)", err)
	}
}

// matches reports whether a pattern covers a subject, as the broker has it.
func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		if token == ">" {
			return len(s) > i
		}
		if i >= len(s) || token != "*" && token != s[i] {
			return false
		}
	}
	return len(p) == len(s)
}

func covers(patterns []string, subject string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, subject) })
}

// literal makes a subject of a pattern.
func literal(pattern string) string {
	tokens := strings.Split(pattern, ".")
	for i, t := range tokens {
		if t == "*" || t == ">" {
			tokens[i] = "x"
		}
	}
	return strings.Join(tokens, ".")
}

// denied are subjects that a user must never have, whatever the table says.
var denied = map[string]struct{ publish, subscribe []string }{
	access.Ingest: {
		publish: []string{
			"tensors.live.m.stable.door", "dlq.infer.door", streams.IncidentSubject, "events.recovery.leader.x", "$KV.LEASES.service.recovery",
			"$KV.CAMERAS.door", "$KV.WORKERS.infer.a", "$JS.ACK.FRAMES.preprocess.1.1.1.0.0", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.DELETE.FRAMES",
			"$JS.API.STREAM.PURGE.FRAMES", "$JS.API.CONSUMER.CREATE.FRAMES.x", "$JS.API.CONSUMER.MSG.NEXT.FRAMES.preprocess", "$JS.API.STREAM.MSG.GET.KV_CAMERAS",
			streams.DisconnectSubject,
		},
		subscribe: []string{">", "frames.>", "predictions.>", "_INBOX.>", "_INBOX_infer.>", "$JS.>", "$KV.CAMERAS.>", "$SYS.>", streams.DisconnectSubject},
	},
	access.Preprocess: {
		publish: []string{
			"frames.live.door", "predictions.m.door", "dlq.infer.door", streams.IncidentSubject, "$KV.LEASES.door", "$KV.MODELS.m", "$KV.WORKERS.infer.a",
			"$JS.ACK.TENSORS.infer-m-stable.1.1.1.0.0", "$JS.API.CONSUMER.DELETE.FRAMES.preprocess", "$JS.API.CONSUMER.CREATE.FRAMES.other.frames.every.*",
			"$JS.API.CONSUMER.MSG.NEXT.TENSORS.infer-m-stable", "$JS.API.STREAM.PURGE.FRAMES", "$KV.STRIKES.TENSORS.1.1",
		},
		subscribe: []string{">", "frames.>", "tensors.>", "_INBOX.>", "_INBOX_recovery.>", "$KV.LEASES.>"},
	},
	access.Infer: {
		publish: []string{
			"frames.every.door", "tensors.every.m.stable.door", "dlq.preprocess.door", streams.IncidentSubject, "$KV.LEASES.door", "$KV.MODELS.m",
			"$JS.ACK.FRAMES.preprocess.1.1.1.0.0", "$JS.API.CONSUMER.CREATE.PREDICTIONS.x", "$JS.API.CONSUMER.MSG.NEXT.FRAMES.preprocess",
			"$JS.API.STREAM.MSG.DELETE.PREDICTIONS", "$KV.STRIKES.FRAMES.1.1",
		},
		subscribe: []string{">", "tensors.>", "predictions.>", "_INBOX.>", "_INBOX_app.>"},
	},
	access.Recovery: {
		publish: []string{
			"frames.live.door", "tensors.live.m.stable.door", "predictions.m.door", "dlq.infer.door", "$KV.CAMERAS.door", "$KV.MODELS.m", "$KV.STRIKES.FRAMES.1.1",
			"$JS.API.STREAM.DELETE.FRAMES", "$JS.API.STREAM.DELETE.PREDICTIONS", "$JS.API.STREAM.PURGE.LEDGER", "$JS.API.STREAM.MSG.DELETE.LEDGER",
			"$JS.API.STREAM.CREATE.OTHER", "$JS.API.CONSUMER.MSG.NEXT.FRAMES.preprocess", "$JS.ACK.PREDICTIONS.x.1.1.1.0.0", streams.DisconnectSubject,
		},
		subscribe: []string{">", "frames.>", "predictions.>", "_INBOX.>", "_INBOX_operator.>", "$SYS.>"},
	},
	access.Drift: {
		publish: []string{
			"frames.live.door", "tensors.live.m.stable.door", "predictions.m.door", "feedback.door", "dlq.infer.door", streams.IncidentSubject,
			"events.recovery.died.x", "events.camera.state.door", "$KV.LEASES.door", "$KV.LEASES.service.recovery", "$KV.CAMERAS.door", "$KV.MODELS.m",
			"$KV.CONDITIONS.door", "$KV.SAMPLING.all", "$KV.WORKERS.infer.a", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.PURGE.PREDICTIONS",
			"$JS.API.STREAM.MSG.DELETE.FEEDBACK", "$JS.API.CONSUMER.CREATE.FRAMES.x", "$JS.API.CONSUMER.MSG.NEXT.FRAMES.preprocess", "$JS.ACK.FRAMES.preprocess.1.1.1.0.0",
		},
		subscribe: []string{">", "frames.>", "predictions.>", "feedback.>", "events.>", "_INBOX.>", "_INBOX_app.>", "$KV.>", "$SYS.>"},
	},
	access.App: {
		publish: []string{
			"predictions.m.door", "frames.live.door", "frames.every.door", "tensors.live.m.stable.door", "events.camera.state.door", "ledger.door", "dlq.infer.door",
			"$KV.LEASES.door", "$KV.CAMERAS.door", "$KV.WORKERS.app.x", "$KV.DRIFT.door.m", "$KV.REFERENCES._request.m", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.UPDATE.PREDICTIONS", "$JS.API.STREAM.DELETE.PREDICTIONS",
			"$JS.API.STREAM.PURGE.PREDICTIONS", "$JS.API.STREAM.MSG.DELETE.PREDICTIONS", "$JS.API.STREAM.INFO.FRAMES", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST",
			"$JS.API.CONSUMER.CREATE.FRAMES.x", "$JS.API.CONSUMER.CREATE.KV_CAMERAS.x.$KV.CAMERAS.>", "$JS.API.CONSUMER.CREATE.LEDGER.x", "$JS.API.CONSUMER.NAMES.PREDICTIONS",
			"$JS.API.CONSUMER.MSG.NEXT.TENSORS.infer-m-stable", "$JS.API.DIRECT.GET.KV_CAMERAS.$KV.CAMERAS.door", "$JS.API.DIRECT.GET.EVENTS.events.camera.state.door",
			"$JS.ACK.FRAMES.preprocess.1.1.1.0.0", "$JS.API.CONSUMER.PAUSE.PREDICTIONS.x", streams.DisconnectSubject,
		},
		subscribe: []string{">", "frames.>", "tensors.>", "events.>", "ledger.>", "dlq.>", "feedback.>", "$KV.>", "$JS.>", "$JS.EVENT.>", "_INBOX.>", "_INBOX_operator.>", "*.>", "$SYS.>"},
	},
	access.Operator: {
		publish: []string{
			"predictions.m.door", "events.recovery.died.x", "events.camera.state.door", streams.IncidentSubject, "dlq.infer.door", "$KV.LEASES.door", "$KV.WORKERS.infer.a",
			"$KV.BOOKS.x", "$KV.DRIFT.door.m", "$KV.REFERENCES.m.1.door", "$JS.ACK.FRAMES.preprocess.1.1.1.0.0", streams.DisconnectSubject, "$SYS.REQ.SERVER.PING",
		},
		subscribe: []string{">", "_INBOX.>", "_INBOX_app.>", "_INBOX_*.>", "$SYS.>", streams.DisconnectSubject},
	},
}

// last is published last: when it has been refused, everything before it has been decided.
const sentinel = "nobody.may.publish.this"

// TestEveryUser tries, on a real server, every subject of every user's as every user, and what none may ever have.
func TestEveryUser(t *testing.T) {
	s := newSite(t, "nats-1")
	for _, u := range access.Users() {
		t.Run(u.Name, func(t *testing.T) {
			never := denied[u.Name]
			if len(never.publish) == 0 || len(never.subscribe) == 0 {
				t.Fatal("nothing is tried that this user must not do")
			}
			for _, subject := range never.publish {
				if covers(u.Publish, subject) && !covers(u.Never, subject) {
					t.Errorf("the table lets it publish %s", subject)
				}
			}
			publish, subscribe := slices.Clone(never.publish), slices.Clone(never.subscribe)
			for _, other := range access.Users() {
				for _, pattern := range slices.Concat(other.Publish, other.Never) {
					publish = append(publish, literal(pattern))
				}
				subscribe = append(subscribe, other.Subscribe...)
			}
			sub := s.try(t, u, publish, subscribe)
			for _, subject := range never.subscribe {
				if !sub[subject] {
					t.Errorf("it may listen to %s", subject)
				}
			}
		})
	}
}

// try does everything and compares what is refused with the table. It returns the subscriptions that were refused.
func (s *site) try(t *testing.T, u access.User, publish, subscribe []string) map[string]bool {
	t.Helper()
	nc, problems := s.watched(u.Name)
	slices.Sort(publish)
	publish = slices.Compact(publish)
	for _, subject := range publish {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(subscribe)
	subscribe = slices.Compact(subscribe)
	for _, subject := range subscribe {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Publish(sentinel, nil); err != nil {
		t.Fatal(err)
	}
	if !problems.await(t, sentinel) {
		t.Fatal("the broker lets it publish anything")
	}
	tried, refused := 0, 0
	for _, subject := range publish {
		want := !covers(u.Publish, subject) || covers(u.Never, subject)
		got := len(problems.with(`publish to "`+subject+`"`)) > 0
		if tried++; got {
			refused++
		}
		if got != want {
			t.Errorf("publish %s: refused %v, want %v", subject, got, want)
		}
	}
	out := map[string]bool{}
	for _, subject := range subscribe {
		out[subject] = len(problems.with(`subscription to "`+subject+`"`)) > 0
		if tried++; out[subject] {
			refused++
		}
		if slices.Contains(u.Subscribe, subject) && out[subject] {
			t.Errorf("subscribe %s is refused", subject)
		}
		if !slices.ContainsFunc(u.Subscribe, func(p string) bool { return matches(p, strings.ReplaceAll(subject, ">", "*")) }) && !out[subject] {
			t.Errorf("subscribe %s is not refused", subject)
		}
	}
	t.Logf("%d subjects tried, %d refused", tried, refused)
	return out
}

// TestWhoIsLetIn: the broker wants TLS and a key that it knows, and clients want the broker that their authority vouches for.
func TestWhoIsLetIn(t *testing.T) {
	s := newSite(t, "nats-1")
	stranger := t.TempDir()
	if _, err := secrets.Make(stranger, time.Now()); err != nil {
		t.Fatal(err)
	}
	good := s.credentials(access.App)
	connect := func(url string, c broker.Credentials, more ...nats.Option) error {
		opts, err := c.Options()
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(url, append(opts, more...)...)
		if err == nil {
			nc.Close()
		}
		return err
	}
	if err := connect(s.URL, good); err != nil {
		t.Fatal(err)
	}
	wrongKey, wrongCA := good, good
	wrongKey.NKey, wrongCA.CA = filepath.Join(stranger, secrets.Seed(access.App)), filepath.Join(stranger, secrets.CA)
	if err := connect(s.URL, wrongKey); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("a key that nobody knows: %v", err)
	}
	if err := connect(s.URL, broker.Credentials{CA: good.CA}); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("no key: %v", err)
	}
	if err := connect(s.URL, broker.Credentials{CA: good.CA}, nats.UserInfo("sightline", "sightline")); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("the password of a broker on loopback: %v", err)
	}
	if err := connect(s.URL, wrongCA); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a broker of another authority: %v", err)
	}
	if err := connect(s.URL, broker.Credentials{User: good.User, NKey: good.NKey}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a broker that nobody vouches for: %v", err)
	}
	s.plain(t)
}
