package ingest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/decodertest"
)

// lossBefore sends units 0 to 29; packets are lost before unit n, which is missing or not.
func lossBefore(n uint32, missing bool) attempt {
	return func(ctx context.Context, sink func(ingest.AccessUnit)) error {
		for i := range uint32(30) {
			au := unit(i)
			if missing && i == n {
				continue
			}
			au.AfterLoss = i == n || missing && i == n+1
			sink(au)
			time.Sleep(40 * time.Millisecond) //nolint:forbidigo // in a bubble
		}
		return hang(ctx, sink)
	}
}

func TestSessionResyncsAfterLoss(t *testing.T) {
	for _, test := range []struct {
		name    string
		play    attempt
		want    [][]uint32
		skipped uint64
		resyncs uint64
	}{
		{"in the middle", lossBefore(13, true), [][]uint32{numbers(0, 13), numbers(20, 30)}, 6, 1},
		{"of nothing that was needed", lossBefore(13, false), [][]uint32{numbers(0, 13), numbers(20, 30)}, 7, 1},
		{"just before a key frame", lossBefore(20, false), [][]uint32{numbers(0, 30)}, 0, 0},
		{"of the last before a key frame", lossBefore(19, true), [][]uint32{numbers(0, 19), numbers(20, 30)}, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, &script{attempts: []attempt{test.play}}, nil)
				r.run(1500 * time.Millisecond)
				r.wantPictures(t, test.want...)
				r.wantStates(t, "connecting", "live") // damage is no failure
				if st := r.session.Stats(); st.Skipped != test.skipped || st.Resyncs != test.resyncs || r.decoders != 1 {
					t.Errorf("stats are %+v with %d decoders", st, r.decoders)
				}
			})
		})
	}
}

func TestSessionResyncsAfterDamage(t *testing.T) {
	for _, test := range []struct {
		name   string
		break_ func(*decodertest.Fake) //nolint:revive // break is taken
		errors uint64
		damage uint64
	}{
		{"decode error", func(f *decodertest.Fake) { f.FailNext(1) }, 1, 0},
		{"damaged picture", func(f *decodertest.Fake) { f.DamageNext(1) }, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, &script{attempts: []attempt{frames(0, 30, hang)}}, func(cfg *ingest.SessionConfig, r *rig) {
					note := cfg.OnPicture
					cfg.OnPicture = func(p ingest.Picture) {
						note(p)
						if len(r.pictures) == 13 {
							test.break_(r.decoder) // the next is unit 13
						}
					}
				})
				r.run(1500 * time.Millisecond)
				r.wantPictures(t, numbers(0, 13), numbers(20, 30))
				st := r.session.Stats()
				if st.DecodeErrors != test.errors || st.Damaged != test.damage || st.Resyncs != 1 || r.decoders != 1 {
					t.Errorf("stats are %+v with %d decoders", st, r.decoders)
				}
			})
		})
	}
}

// TestSessionSaysThatDamageBlindsIt: key frames are four seconds apart here.
func TestSessionSaysThatDamageBlindsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &script{attempts: []attempt{func(ctx context.Context, sink func(ingest.AccessUnit)) error {
			for n := range uint32(150) {
				au := decodertest.FakeUnit(ingest.H264, n, n%100 == 0, 320, 240)
				au.AfterLoss = n == 25
				sink(au)
				time.Sleep(40 * time.Millisecond) //nolint:forbidigo // in a bubble
			}
			return hang(ctx, sink)
		}}}
		r := start(t, src, nil)
		r.run(5 * time.Second)
		r.wantStates(t, "connecting", "live", "down damaged", "live")
		if d := r.states[2].At.Sub(r.states[1].At); d != 2960*time.Millisecond { // the last picture was at 0.96 s
			t.Errorf("said so after %s, want 2.96s", d)
		}
		if st := r.session.Stats(); len(st.Reconnects) != 0 {
			t.Errorf("reconnected: %v", st.Reconnects)
		}
	})
}

func TestSessionFollowsCodecAndSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		play := func(ctx context.Context, sink func(ingest.AccessUnit)) error {
			sink(decodertest.FakeUnit(ingest.H264, 0, true, 320, 240))
			sink(decodertest.FakeUnit(ingest.H264, 1, true, 640, 480))
			sink(decodertest.FakeUnit(ingest.H265, 2, true, 640, 480))
			return hang(ctx, sink)
		}
		var sizes []int
		r := start(t, &script{attempts: []attempt{play}}, func(cfg *ingest.SessionConfig, _ *rig) {
			cfg.OnPicture = func(p ingest.Picture) {
				w, _ := p.Size()
				sizes = append(sizes, w)
			}
		})
		r.run(time.Second)
		if !slices.Equal(sizes, []int{320, 640, 640}) || r.decoders != 2 {
			t.Errorf("widths are %v with %d decoders", sizes, r.decoders)
		}
	})
}

func TestSessionGivesUpOnWhatNeverDecodes(t *testing.T) {
	noKeys := func(ctx context.Context, sink func(ingest.AccessUnit)) error {
		for n := uint32(1); ctx.Err() == nil; n++ {
			sink(decodertest.FakeUnit(ingest.H264, n, false, 320, 240))
			time.Sleep(40 * time.Millisecond) //nolint:forbidigo // in a bubble
		}
		return ctx.Err()
	}
	garbage := func(ctx context.Context, sink func(ingest.AccessUnit)) error {
		for ctx.Err() == nil {
			sink(ingest.AccessUnit{Codec: ingest.H264, Key: true, Data: []byte("garbage")})
			time.Sleep(40 * time.Millisecond) //nolint:forbidigo // in a bubble
		}
		return ctx.Err()
	}
	for _, test := range []struct {
		name   string
		play   attempt
		detail string
	}{
		{"no key frame", noKeys, "access units arrive, but no picture comes of them"},
		{"garbage", garbage, "access units arrive, but no picture comes of them; the last error was: decode: invalid data"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, &script{attempts: []attempt{test.play}}, nil)
				r.run(16 * time.Second)
				r.wantStates(t, "connecting", "down codec")
				if s := r.states[1]; s.Detail != test.detail || s.At.Sub(r.states[0].At).Round(100*time.Millisecond) != 15*time.Second {
					t.Errorf("state is %+v", s)
				}
			})
		})
	}
}

func TestSessionReportsWhyThereIsNoDecoder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &script{attempts: []attempt{frames(0, 100, hang)}}, func(cfg *ingest.SessionConfig, _ *rig) {
			cfg.NewDecoder = func(ingest.Codec) (ingest.Decoder, error) { return nil, errors.New("no such library") }
		})
		r.run(time.Second)
		r.wantStates(t, "connecting", "down codec")
	})
}

func TestSessionTakesASourceThatJustEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := func(context.Context, func(ingest.AccessUnit)) error { return nil }
		r := start(t, &script{attempts: []attempt{frames(0, 5, ends), hang}}, nil)
		r.run(time.Second)
		r.wantStates(t, "connecting", "live", "down closed")
		r.wantPictures(t, numbers(0, 5)) // those that were in the queue too
	})
}

func TestSessionRedactsDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const u = "rtsp://admin:hunter22@cam/1"
		src := &script{attempts: []attempt{failWith(ingest.CauseAuth, "describe "+u+": hunter22 is wrong")}}
		r := start(t, src, func(cfg *ingest.SessionConfig, _ *rig) { cfg.Redactor = ingest.NewRedactor(u) })
		r.run(time.Second)
		if d := r.states[1].Detail; d != "describe rtsp://[redacted]@cam/1: [redacted] is wrong" {
			t.Errorf("detail is %q", d)
		}
	})
}

// TestSlowConsumer lets OnPicture take five frame times: the queue must jump, not grow, and the source not wait.
func TestSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const units = 1000
		var oldest time.Duration
		src := &script{attempts: []attempt{frames(0, units, hang)}}
		r := start(t, src, func(cfg *ingest.SessionConfig, r *rig) {
			cfg.QueueSize, cfg.StallTimeout = 25, time.Hour
			cfg.OnPicture = func(p ingest.Picture) {
				oldest = max(oldest, time.Since(p.Received()))
				r.pictures = append(r.pictures, uint32(p.PTS()/(40*time.Millisecond)))
				time.Sleep(200 * time.Millisecond) //nolint:forbidigo // in a bubble
			}
		})
		r.run(units * 40 * time.Millisecond)
		st := r.session.Stats()
		if st.AccessUnits != units {
			t.Errorf("the source was held up: %d units", st.AccessUnits)
		}
		if st.QueueOverflows == 0 || st.QueueDropped < units/2 {
			t.Errorf("stats are %+v", st)
		}
		r.run(10 * time.Second) // let it drain
		st = r.session.Stats()
		if st.AccessUnits != st.Pictures+st.QueueDropped+st.Skipped+st.DecodeErrors {
			t.Errorf("the books do not balance: %+v", st)
		}
		if oldest > 25*200*time.Millisecond {
			t.Errorf("a picture was %s old", oldest)
		}
		for i := 1; i < len(r.pictures); i++ {
			if now, last := r.pictures[i], r.pictures[i-1]; now != last+1 && now%10 != 0 {
				t.Fatalf("unit %d after %d: a gap that does not end at a key frame", now, last)
			}
		}
	})
}

// TestOneBadCameraNeverDelaysAnother runs a camera whose consumer hangs beside a good one.
func TestOneBadCameraNeverDelaysAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		start(t, &script{attempts: []attempt{frames(0, 1e6, hang)}}, func(cfg *ingest.SessionConfig, _ *rig) {
			cfg.OnPicture = func(ingest.Picture) { <-stuck }
		})
		t.Cleanup(func() { close(stuck) }) // before the first session is told to end
		start(t, &script{attempts: []attempt{failWith(ingest.CauseRefused, "no")}}, nil)
		var late time.Duration
		good := start(t, &script{attempts: []attempt{frames(0, 250, hang)}}, func(cfg *ingest.SessionConfig, _ *rig) {
			note := cfg.OnPicture
			cfg.OnPicture = func(p ingest.Picture) {
				late = max(late, time.Since(p.Received()))
				note(p)
			}
		})
		good.run(11 * time.Second)
		good.wantPictures(t, numbers(0, 250))
		if late != 0 {
			t.Errorf("a picture was %s late", late)
		}
	})
}
