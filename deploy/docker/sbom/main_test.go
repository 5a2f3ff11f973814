package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestAnImageIsListed(t *testing.T) {
	t.Parallel()
	self, err := os.ReadFile(os.Args[0]) // a Go program
	if err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, f := range []struct{ name, content string }{
		{"usr/local/bin/ingest", string(self)},
		{"usr/local/bin/script", "#!/bin/sh\n"},
		{"usr/local/lib/libonnxruntime.so.purl", "pkg:github/microsoft/onnxruntime@1.28.2\n"},
		{"var/lib/dpkg/status.d/libc6", "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: 2.36-9+deb12u14\nDescription: GNU C Library\n more: of it\n"},
		{"var/lib/dpkg/status", "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: there\nStatus: install ok installed\nArchitecture: all\nVersion: 2\n"},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.content)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(&image, &out, "sightline/ingest", "dev"); err != nil {
		t.Fatal(err)
	}
	var b BOM
	if err := json.Unmarshal(out.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"pkg:golang/stdlib@1.`, `"pkg:github/microsoft/onnxruntime@1.28.2"`, `"version": "1.28.2"`, `"name": "ingest"`,
		`"pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12&upstream=glibc"`, `"there"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in\n%s", want, out.String())
		}
	}
	for _, never := range []string{`"gone"`, `"script"`} {
		if strings.Contains(out.String(), never) {
			t.Errorf("%s is in it", never)
		}
	}
}

func TestAnImageOfWhichNothingIsKnownIsAnError(t *testing.T) {
	t.Parallel()
	var image, out bytes.Buffer
	if err := tar.NewWriter(&image).Close(); err != nil {
		t.Fatal(err)
	}
	if err := run(&image, &out, "empty", "dev"); err == nil {
		t.Error(out.String())
	}
}
