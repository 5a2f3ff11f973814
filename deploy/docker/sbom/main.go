// Command sbom lists what an image contains, as CycloneDX JSON: the Go modules that its programs were built from, and the Debian
// packages that its libraries come from. It reads the image's files as a tar, as `docker export` writes it.
//
//	docker export CONTAINER | sbom -name sightline/ingest -version dev
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
)

func main() {
	name := flag.String("name", "", "name of the image")
	version := flag.String("version", "", "its version")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *name, *version); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// A Component is one of CycloneDX.
type Component struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	PURL    string `json:"purl,omitempty"`
	Ref     string `json:"bom-ref,omitempty"`
}

// BOM is a bill of materials. It says when it was made nowhere: the same image has the same.
type BOM struct {
	Format   string `json:"bomFormat"`
	Spec     string `json:"specVersion"`
	Version  int    `json:"version"`
	Metadata struct {
		Component Component `json:"component"`
	} `json:"metadata"`
	Components []Component `json:"components"`
}

func run(in io.Reader, out io.Writer, name, version string) error {
	components, err := read(in)
	if err != nil {
		return err
	}
	if len(components) == 0 {
		return errors.New("nothing in it is known: neither Go programs nor Debian packages")
	}
	b := BOM{Format: "CycloneDX", Spec: "1.6", Version: 1, Components: components}
	b.Metadata.Component = Component{Type: "container", Name: name, Version: version}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// maxFile bounds what is read of one file; the largest in an image is a library of 240 MB.
const maxFile = 512 << 20

func read(in io.Reader) ([]Component, error) {
	var all []Component
	archive := tar.NewReader(in)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read image: %w", err)
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxFile {
			continue
		}
		found, err := file(strings.TrimPrefix(path.Clean(h.Name), "/"), archive)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b Component) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.PURL, b.PURL), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(all), nil
}

// file is what one file says about what is in the image.
func file(name string, content io.Reader) ([]Component, error) {
	switch dir := path.Dir(name); {
	case name == "var/lib/dpkg/status", dir == "var/lib/dpkg/status.d":
		return packages(content)
	case strings.HasSuffix(name, ".purl"): // of a library that neither Go nor Debian knows
		data, err := io.ReadAll(io.LimitReader(content, 1024))
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		purl := strings.TrimSpace(string(data))
		what, version, _ := strings.Cut(path.Base(purl), "@")
		return []Component{{Type: "library", Name: what, Version: version, PURL: purl}}, nil
	case dir == "usr/local/bin":
		return modules(name, content)
	}
	return nil, nil
}

// modules are those of a Go program; any other program has none.
func modules(name string, content io.Reader) ([]Component, error) {
	data, err := io.ReadAll(content)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return nil, nil //nolint:nilerr // it is no Go program
	}
	out := []Component{
		{Type: "application", Name: path.Base(name), Ref: name},
		{Type: "library", Name: "stdlib", Version: info.GoVersion, PURL: "pkg:golang/stdlib@" + strings.TrimPrefix(info.GoVersion, "go")},
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Version == "" || m.Version == "(devel)" {
			continue // a module of this repository
		}
		out = append(out, Component{Type: "library", Name: m.Path, Version: m.Version, PURL: "pkg:golang/" + m.Path + "@" + m.Version})
	}
	return out, nil
}

// packages reads dpkg's records.
func packages(content io.Reader) ([]Component, error) {
	var out []Component
	fields := map[string]string{}
	flush := func() {
		if fields["Package"] != "" && strings.HasSuffix(fields["Status"], " installed") {
			purl := "pkg:deb/debian/" + fields["Package"] + "@" + url.QueryEscape(fields["Version"]) + "?arch=" + fields["Architecture"] + "&distro=debian-12"
			if source, _, _ := strings.Cut(fields["Source"], " "); source != "" {
				purl += "&upstream=" + source
			}
			out = append(out, Component{Type: "library", Name: fields["Package"], Version: fields["Version"], PURL: purl})
		}
		clear(fields)
	}
	lines := bufio.NewScanner(content)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			flush()
			continue
		}
		if key, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, " ") {
			fields[key] = value
		}
	}
	flush()
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return out, nil
}
