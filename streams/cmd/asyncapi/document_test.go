package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/streams"
)

const published = "../../../docs/asyncapi.yaml"

type object = map[string]any

func document(t *testing.T) object {
	t.Helper()
	data, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	var doc object
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestThePublishedDocumentIsUpToDate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "asyncapi.yaml")
	if err := run([]string{"-o", file}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/asyncapi.yaml differs from the declarations: run make generate")
	}
}

func TestEveryDeclarationIsInTheDocument(t *testing.T) {
	doc := document(t)
	js := doc["x-jetstream"].(object)
	subjects := map[string]bool{}
	for _, c := range doc["channels"].(object) {
		x := c.(object)["x-jetstream"].(object)
		subjects[x["stream"].(string)+" "+x["subject"].(string)] = true
	}
	all := streams.Streams(streams.Options{})
	for _, s := range all {
		got, ok := js["streams"].(object)[s.Name].(object)
		if !ok || got["retention"] != s.Retention.String() || got["storage"] != s.Storage.String() {
			t.Errorf("stream %s: %v", s.Name, got)
		}
		if n, _ := got["maxMessagesPerSubject"].(int); int64(n) != max(s.MaxMsgsPerSubject, 0) {
			t.Errorf("stream %s: maxMessagesPerSubject %d, declared %d", s.Name, n, s.MaxMsgsPerSubject)
		}
		for _, subject := range s.Subjects {
			if !subjects[s.Name+" "+subject] {
				t.Errorf("no channel for %s of %s", subject, s.Name)
			}
		}
	}
	if n := len(js["streams"].(object)); n != len(all) {
		t.Errorf("%d streams, declared %d", n, len(all))
	}
	buckets := streams.Buckets(streams.Options{})
	for _, b := range buckets {
		if _, ok := js["buckets"].(object)[b.Bucket]; !ok {
			t.Errorf("no bucket %s", b.Bucket)
		}
	}
	if n := len(js["buckets"].(object)); n != len(buckets) {
		t.Errorf("%d buckets, declared %d", n, len(buckets))
	}
	var consumers []string
	for _, o := range doc["operations"].(object) {
		if x, ok := o.(object)["x-jetstream"].(object); ok {
			consumers = append(consumers, x["stream"].(string)+" "+x["durable"].(string)+" "+x["ackWait"].(string))
		}
	}
	groups := streams.WorkGroups("{model}", "{lane}")
	for _, g := range groups {
		if want := g.Stream + " " + g.Config.Durable + " " + g.Config.AckWait.String(); !slices.Contains(consumers, want) {
			t.Errorf("no operation for the work group %s in %v", want, consumers)
		}
	}
	if len(consumers) != len(groups) {
		t.Errorf("%d consumers, declared %d", len(consumers), len(groups))
	}
}

// requireKeys is what AsyncAPI 3.0 requires of each kind of object.
func requireKeys(t *testing.T, what string, o any, keys ...string) {
	t.Helper()
	for _, k := range keys {
		if v, ok := o.(object)[k]; !ok || v == nil || v == "" {
			t.Errorf("%s has no %s", what, k)
		}
	}
}

func TestTheDocumentIsAsyncAPI3(t *testing.T) {
	doc := document(t)
	requireKeys(t, "the document", doc, "asyncapi", "info", "channels", "operations", "components")
	if doc["asyncapi"] != "3.0.0" {
		t.Errorf("asyncapi %v", doc["asyncapi"])
	}
	requireKeys(t, "info", doc["info"], "title", "version")
	for name, s := range doc["servers"].(object) {
		requireKeys(t, "server "+name, s, "host", "protocol")
	}
	for name, c := range doc["channels"].(object) {
		requireKeys(t, "channel "+name, c, "address", "parameters", "messages")
		address, _ := c.(object)["address"].(string)
		for p := range c.(object)["parameters"].(object) {
			if !strings.Contains(address, "{"+p+"}") {
				t.Errorf("channel %s: parameter %s is not in %s", name, p, address)
			}
		}
		if strings.Count(address, "{") != len(c.(object)["parameters"].(object)) {
			t.Errorf("channel %s: not every parameter of %s is described", name, address)
		}
	}
	for name, o := range doc["operations"].(object) {
		requireKeys(t, "operation "+name, o, "action", "channel")
		if action := o.(object)["action"]; action != "send" && action != "receive" {
			t.Errorf("operation %s: action %v", name, action)
		}
	}
	for name, m := range doc["components"].(object)["messages"].(object) {
		requireKeys(t, "message "+name, m, "title", "summary", "contentType", "headers", "payload")
	}
	root := object{"#": doc}
	refs := 0
	walk(doc, func(ref string) {
		refs++
		if file, ok := strings.CutSuffix(ref, ".schema.json"); ok {
			if _, err := os.Stat(filepath.Join(filepath.Dir(published), file+".schema.json")); err != nil {
				t.Error(err)
			}
			return
		}
		at := any(root)
		for step := range strings.SplitSeq(ref, "/") {
			o, _ := at.(object)
			if at = o[step]; at == nil {
				t.Errorf("%s leads nowhere", ref)
				return
			}
		}
	})
	if refs < 50 {
		t.Errorf("only %d references", refs)
	}
}

// walk calls f with every $ref.
func walk(at any, f func(ref string)) {
	switch v := at.(type) {
	case object:
		for k, inner := range v {
			if ref, ok := inner.(string); ok && k == "$ref" {
				f(ref)
			}
			walk(inner, f)
		}
	case []any:
		for _, inner := range v {
			walk(inner, f)
		}
	}
}
