package system

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/ort"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/ffmpeg"
	"github.com/sightline-dev/sightline/services/ingest/rtsp"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/cv"
)

// NewBackend is ONNX Runtime. path is that of its shared library; "" searches for it.
func NewBackend(path string) (infer.Backend, error) { return ort.New(path) }

// NewImager is OpenCV.
func NewImager() preprocess.Imager { return cv.Imager{} }

// NewDecoder is FFmpeg.
func NewDecoder(c ingest.Codec) (ingest.Decoder, error) { return ffmpeg.New(c) }

// NewSource is RTSP.
func NewSource(c config.Camera) (ingest.Source, error) {
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
