package camera

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// PasswordEnv is the environment variable with the password, which has no flag: others can read command lines.
const PasswordEnv = "SIGHTLINE_CAMERA_PASSWORD"

// Command is the camera program: it plays what args say until ctx ends, and tells on stdout where to look.
func Command(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	var cfg Config
	flags := flag.NewFlagSet("camera", flag.ContinueOnError)
	flags.SetOutput(stdout)
	footage := flags.String("footage", "", "`file` or folder to play: .ts (H.264, H.265), .jpg, .mjpeg, or a folder of .jpg")
	fps := flags.Float64("fps", 10, "pictures per second of JPEGs")
	flags.StringVar(&cfg.Listen, "listen", "127.0.0.1:8554", "`host:port` of RTSP")
	flags.StringVar(&cfg.Path, "path", "cam", "path of the stream")
	flags.StringVar(&cfg.User, "user", "", "user name that viewers need; the password is in $"+PasswordEnv)
	flags.StringVar((*string)(&cfg.Auth), "auth", "", "basic or digest; empty for both")
	cert := flags.String("tls-cert", "", "certificate `file`: serve RTSPS")
	key := flags.String("tls-key", "", "key `file` of the certificate")
	flags.BoolVar(&cfg.NoUDP, "no-udp", false, "refuse UDP")
	flags.BoolVar(&cfg.NoTCP, "no-tcp", false, "refuse TCP")
	flags.Float64Var(&cfg.Faults.Drop, "drop", 0, "share of RTP packets to lose, 0 to 1")
	flags.Float64Var(&cfg.Faults.Corrupt, "corrupt", 0, "share of RTP packets to damage, 0 to 1")
	flags.BoolVar(&cfg.Faults.Frozen, "frozen", false, "send the first key frame again and again")
	flags.Float64Var(&cfg.Faults.Pace, "pace", 1, "how fast the footage plays: another number of pictures than the stream announces")
	flags.DurationVar(&cfg.Faults.ClockOffset, "clock-offset", 0, "how wrong the camera's time of day is")
	flags.Float64Var(&cfg.Faults.ClockRate, "clock-rate", 1, "how fast the camera's RTP clock runs")
	look := flags.String("look", "", "filter the footage, once: "+strings.Join(Looks(), ", "))
	cache := flags.String("look-cache", filepath.Join(os.TempDir(), "sightline-looks"), "`folder` where filtered footage is kept")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "seed of the faults")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	cfg.Password = getenv(PasswordEnv)
	var err error
	if *look != "" {
		l, err := FindLook(*look)
		if err != nil {
			return err
		}
		if *footage, err = l.Prepare(ctx, *footage, *cache); err != nil {
			return err
		}
	}
	if cfg.Footage, err = Load(*footage, *fps); err != nil {
		return err
	}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			return fmt.Errorf("load certificate: %w", err)
		}
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	s, err := New(cfg)
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-s.Ready():
			_, _ = fmt.Fprintf(stdout, "camera: %s, %d pictures in %s, at %s path /%s\n",
				cfg.Footage.Codec, cfg.Footage.Units, cfg.Footage.Length, s.Addr(), s.cfg.Path)
		case <-ctx.Done():
		}
	}()
	return s.Run(ctx)
}
