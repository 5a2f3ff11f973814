// Package adapters are the real parts that ingest works with: camera protocols by the scheme of a camera's URL, and
// FFmpeg as the decoder.
package adapters

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/ffmpeg"
	"github.com/sightline-dev/sightline/services/ingest/rtsp"
)

// NewDecoder is FFmpeg.
func NewDecoder(c ingest.Codec) (ingest.Decoder, error) { return ffmpeg.New(c) }

// sources are the camera protocols, by the scheme of the camera's URL.
var sources = map[string]func(config.Camera) (ingest.Source, error){
	"rtsp":  newRTSP,
	"rtsps": newRTSP,
}

// NewSource connects to a camera by the protocol of its URL.
func NewSource(c config.Camera) (ingest.Source, error) {
	scheme, _, _ := strings.Cut(c.URL.Reveal(), "://")
	source, ok := sources[strings.ToLower(scheme)]
	if !ok {
		return nil, ingest.WithCause(ingest.CauseConfig, fmt.Errorf("no source for %s:// cameras", scheme))
	}
	return source(c)
}

func newRTSP(c config.Camera) (ingest.Source, error) {
	cfg := rtsp.Config{URL: c.URL.Reveal(), Transport: rtsp.Transport(c.Transport)}
	if c.TLS != (config.TLS{}) {
		cfg.TLS = &tls.Config{InsecureSkipVerify: c.TLS.Insecure} //nolint:gosec // the operator's own choice, with a warning
		if c.TLS.CA != "" {
			cfg.TLS.RootCAs = x509.NewCertPool()
			if !cfg.TLS.RootCAs.AppendCertsFromPEM([]byte(c.TLS.CA)) {
				return nil, ingest.WithCause(ingest.CauseConfig, errors.New("tls.ca holds no certificate"))
			}
		}
	}
	return rtsp.New(cfg)
}
