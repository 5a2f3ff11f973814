package detect

import (
	"math"
	"testing"
	"time"
)

// FuzzDecode: what is stored is read back the same or refused, and a detector that was read can go on.
func FuzzDecode(f *testing.F) {
	p := &player{d: newDetector(f, config()), at: morning()}
	c := loadClip(f, "dark")
	for _, seconds := range []float64{1, 100, 150} {
		p.play(seconds, c)
		data, err := p.d.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"format":1,"reference":{"format":1,"camera":"c","model":"m","hours":1},"state":"ok"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Decode(config(), data)
		if err != nil {
			return
		}
		at := d.s.Seen
		if at.Year() < 1 || at.Year() > 9000 {
			at = morning()
		}
		for i := range 60 {
			o := observation(at.Add(time.Duration(i+1) * time.Second))
			if v, ok := d.Observe(&o); ok {
				for _, e := range v.Evidence {
					if math.IsNaN(e.Score) {
						t.Fatalf("%+v", e)
					}
				}
			}
		}
		again, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(config(), again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, again)
		}
	})
}
