package specimen

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// A font is parsed once; it is safe for concurrent use, its faces are not.
var (
	regular = parseFont(goregular.TTF)
	bold    = parseFont(gobold.TTF)
	mono    = parseFont(gomono.TTF)
)

func parseFont(source []byte) func() (*opentype.Font, error) {
	return sync.OnceValues(func() (*opentype.Font, error) { return opentype.Parse(source) })
}

// canvas is a picture in the making. The first error of a font stays. The draw
// packages are given the RGBA inside: they are fast with types that they know.
type canvas struct {
	*image.RGBA
	err error
}

func newCanvas(width, height int) *canvas {
	return &canvas{RGBA: image.NewRGBA(image.Rect(0, 0, width, height))}
}

func rgb(hex uint32) color.NRGBA {
	return color.NRGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 255}
}

func faded(c color.NRGBA, alpha uint8) color.NRGBA {
	c.A = alpha
	return c
}

func mix(a, b color.NRGBA, t float64) color.NRGBA {
	between := func(x, y uint8) uint8 { return uint8(float64(x) + (float64(y)-float64(x))*t) }
	return color.NRGBA{between(a.R, b.R), between(a.G, b.G), between(a.B, b.B), 255}
}

func (c *canvas) rect(x, y, w, h int, fill color.Color) {
	draw.Draw(c.RGBA, image.Rect(x, y, x+w, y+h), image.NewUniform(fill), image.Point{}, draw.Over)
}

// ellipse is antialiased.
func (c *canvas) ellipse(cx, cy, rx, ry float64, fill color.Color) {
	const k = 0.5523 // a cubic curve that is nearly a quarter of a circle
	x, y, a, b := float32(cx), float32(cy), float32(rx), float32(ry)
	r := vector.NewRasterizer(c.Rect.Dx(), c.Rect.Dy())
	r.MoveTo(x+a, y)
	r.CubeTo(x+a, y+k*b, x+k*a, y+b, x, y+b)
	r.CubeTo(x-k*a, y+b, x-a, y+k*b, x-a, y)
	r.CubeTo(x-a, y-k*b, x-k*a, y-b, x, y-b)
	r.CubeTo(x+k*a, y-b, x+a, y-k*b, x+a, y)
	r.ClosePath()
	r.Draw(c.RGBA, c.Rect, image.NewUniform(fill), image.Point{})
}

// waves draws the fine lines of a security background.
func (c *canvas) waves(line color.NRGBA, count int, amplitude, length float64) {
	bounds := c.Bounds()
	step := float64(bounds.Dy()) / float64(count)
	for n := range count {
		base, phase := step*(float64(n)+0.5), float64(n)*0.7
		for x := range bounds.Dx() {
			y := base + amplitude*math.Sin(float64(x)/length+phase)*math.Cos(float64(x)/(length*2.7)-phase/3)
			c.rect(x, int(y), 1, 2, line)
		}
	}
}

// text writes a line whose baseline starts at x, y.
func (c *canvas) text(x, y int, parsed func() (*opentype.Font, error), size float64, ink color.Color, line string) {
	var face font.Face
	f, err := parsed()
	if err == nil {
		face, err = opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
	}
	if err != nil {
		c.err = err
		return
	}
	d := font.Drawer{Dst: c.RGBA, Src: image.NewUniform(ink), Face: face, Dot: fixed.P(x, y)}
	d.DrawString(line)
}

// specimen lays the word SPECIMEN across the picture.
func (c *canvas) specimen() {
	width, height := c.Rect.Dx(), c.Rect.Dy()
	c.text(width/20, height/2, bold, float64(width)*0.17, color.NRGBA{R: 200, G: 24, B: 40, A: 80}, "SPECIMEN")
}

// gray takes the colours away, as a copier does.
func (c *canvas) gray() {
	for i := 0; i < len(c.Pix); i += 4 {
		y := uint8((299*int(c.Pix[i]) + 587*int(c.Pix[i+1]) + 114*int(c.Pix[i+2])) / 1000)
		c.Pix[i], c.Pix[i+1], c.Pix[i+2] = y, y, y
	}
}

// paste copies a finished picture to the place.
func (c *canvas) paste(from *canvas, at image.Point) {
	draw.Draw(c.RGBA, from.Bounds().Add(at), from.RGBA, image.Point{}, draw.Src)
}
