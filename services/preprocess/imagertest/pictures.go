package imagertest

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
)

// PNG encodes without loss.
func PNG(img image.Image) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err) // a buffer takes everything
	}
	return b.Bytes()
}

// JPEG encodes at a quality of 1 to 100.
func JPEG(img image.Image, q int) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: q}); err != nil {
		panic(err) // a buffer takes everything
	}
	return b.Bytes()
}

// Noise is a picture of random pixels, the same for the same seed.
func Noise(width, height int, seed byte) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(img.Pix) // never fails
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	return img
}

// Quadrants is a picture of four colours that cannot be mistaken for each other, mirrored or turned.
func Quadrants(width, height int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i, c := range []color.NRGBA{{230, 30, 20, 255}, {20, 200, 40, 255}, {30, 50, 220, 255}, {240, 240, 90, 255}} {
		at := image.Rect(0, 0, width/2, height/2).Add(image.Pt(i%2*width/2, i/2*height/2))
		draw.Draw(img, at, image.NewUniform(c), image.Point{}, draw.Src)
	}
	return img
}

// Scene is a picture with shapes and gradients, more like a camera's than Noise; seeds differ in layout.
func Scene(width, height int, seed float64) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			u, v := float64(x)/float64(width), float64(y)/float64(height)
			a := math.Sin(5*u+seed) * math.Cos(7*v-2*seed)
			b := math.Sin(11*u*v + 3*seed)
			if math.Hypot(u-0.3-0.1*seed, v-0.5) < 0.2 {
				a, b = 0.9, -0.5
			}
			img.SetNRGBA(x, y, color.NRGBA{uint8(110 + 80*a), uint8(110 + 60*b), uint8(110 + 40*a*b), 255})
		}
	}
	return img
}

// Oversized is a JPEG whose header claims another size.
func Oversized(jpg []byte, width, height uint16) []byte {
	out := bytes.Clone(jpg)
	at := bytes.Index(out, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(out[at+5:], height)
	binary.BigEndian.PutUint16(out[at+7:], width)
	return out
}

func flip(data []byte, at int) []byte {
	out := bytes.Clone(data)
	out[at] ^= 0x55
	return out
}

func grey(src *image.NRGBA) *image.Gray {
	out := image.NewGray(src.Rect)
	for i := range out.Pix {
		out.Pix[i] = src.Pix[4*i]
	}
	return out
}
