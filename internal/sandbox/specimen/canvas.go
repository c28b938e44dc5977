package specimen

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"sync"

	xdraw "golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/f64"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

type style int

const (
	regular style = iota
	bold
	mono
)

// fonts are parsed once; they are safe for concurrent use, faces are not.
var fonts = sync.OnceValues(func() (map[style]*opentype.Font, error) {
	parsed := map[style]*opentype.Font{}
	for s, source := range map[style][]byte{regular: goregular.TTF, bold: gobold.TTF, mono: gomono.TTF} {
		f, err := opentype.Parse(source)
		if err != nil {
			return nil, fmt.Errorf("parsing a font: %w", err)
		}
		parsed[s] = f
	}
	return parsed, nil
})

// canvas is a picture in the making. The first error of a font stays. The draw
// packages are given the RGBA inside: they are fast with types that they know.
type canvas struct {
	*image.RGBA
	err   error
	faces map[face]font.Face
}

type face struct {
	style style
	size  float64
}

func newCanvas(width, height int) *canvas {
	return &canvas{RGBA: image.NewRGBA(image.Rect(0, 0, width, height)), faces: map[face]font.Face{}}
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

// gradient fills the canvas from top to bottom.
func (c *canvas) gradient(top, bottom color.NRGBA) {
	height := c.Bounds().Dy()
	for y := range height {
		c.rect(0, y, c.Bounds().Dx(), 1, mix(top, bottom, float64(y)/float64(height)))
	}
}

// path fills a closed shape, antialiased. It is given in the box's coordinates.
func (c *canvas) path(box image.Rectangle, fill color.Color, outline func(*vector.Rasterizer)) {
	r := vector.NewRasterizer(box.Dx(), box.Dy())
	outline(r)
	r.ClosePath()
	// By way of a mask: the rasterizer does not clip a box that leaves the canvas.
	mask := image.NewAlpha(image.Rectangle{Max: box.Size()})
	r.Draw(mask, mask.Bounds(), image.Opaque, image.Point{})
	draw.DrawMask(c.RGBA, box, image.NewUniform(fill), image.Point{}, mask, image.Point{}, draw.Over)
}

func (c *canvas) ellipse(cx, cy, rx, ry float64, fill color.Color) {
	box := image.Rect(int(cx-rx)-1, int(cy-ry)-1, int(cx+rx)+2, int(cy+ry)+2)
	x, y := float32(cx)-float32(box.Min.X), float32(cy)-float32(box.Min.Y)
	a, b := float32(rx), float32(ry)
	const k = 0.5523 // a cubic curve that is nearly a quarter of a circle
	c.path(box, fill, func(r *vector.Rasterizer) {
		r.MoveTo(x+a, y)
		r.CubeTo(x+a, y+k*b, x+k*a, y+b, x, y+b)
		r.CubeTo(x-k*a, y+b, x-a, y+k*b, x-a, y)
		r.CubeTo(x-a, y-k*b, x-k*a, y-b, x, y-b)
		r.CubeTo(x+k*a, y-b, x+a, y-k*b, x+a, y)
	})
}

func (c *canvas) roundRect(x, y, w, h, radius int, fill color.Color) {
	fw, fh, q := float32(w), float32(h), float32(radius)
	c.path(image.Rect(x, y, x+w, y+h), fill, func(r *vector.Rasterizer) {
		r.MoveTo(q, 0)
		r.LineTo(fw-q, 0)
		r.QuadTo(fw, 0, fw, q)
		r.LineTo(fw, fh-q)
		r.QuadTo(fw, fh, fw-q, fh)
		r.LineTo(q, fh)
		r.QuadTo(0, fh, 0, fh-q)
		r.LineTo(0, q)
		r.QuadTo(0, 0, q, 0)
	})
}

// waves draws the fine lines of a security background.
func (c *canvas) waves(line color.NRGBA, count int, amplitude, length float64) {
	bounds := c.Bounds()
	step := float64(bounds.Dy()) / float64(count)
	for n := range count {
		base, phase := step*(float64(n)+0.5), float64(n)*0.7
		for x := range bounds.Dx() {
			y := base + amplitude*math.Sin(float64(x)/length+phase)*math.Cos(float64(x)/(length*2.7)-phase/3)
			whole, part := math.Modf(y)
			c.blend(x, int(whole), faded(line, uint8(float64(line.A)*(1-part))))
			c.blend(x, int(whole)+1, faded(line, uint8(float64(line.A)*part)))
		}
	}
}

// blend lays one translucent pixel over an opaque picture.
func (c *canvas) blend(x, y int, over color.NRGBA) {
	if !(image.Point{X: x, Y: y}).In(c.Rect) {
		return
	}
	pixel := c.Pix[c.PixOffset(x, y):][:3:3]
	alpha := int(over.A)
	for i, value := range [3]uint8{over.R, over.G, over.B} {
		pixel[i] = uint8((int(pixel[i])*(255-alpha) + int(value)*alpha) / 255)
	}
}

// text writes a line whose baseline starts at x, y.
func (c *canvas) text(x, y int, s style, size float64, ink color.Color, line string) {
	f, ok := c.faces[face{s, size}]
	if !ok {
		parsed, err := fonts()
		if err == nil {
			f, err = opentype.NewFace(parsed[s], &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
		}
		if err != nil {
			c.err = err
			return
		}
		c.faces[face{s, size}] = f
	}
	d := font.Drawer{Dst: c.RGBA, Src: image.NewUniform(ink), Face: f, Dot: fixed.P(x, y)}
	d.DrawString(line)
}

// stamps are the slanted SPECIMEN masks by the width of their picture.
var stamps sync.Map

// specimen lays the word SPECIMEN across the picture.
func (c *canvas) specimen() {
	bounds := c.Bounds()
	key := bounds.Size()
	mask, ok := stamps.Load(key)
	if !ok {
		word := newCanvas(640, 130)
		word.text(4, 104, bold, 118, color.White, "SPECIMEN")
		if word.err != nil {
			c.err = word.err
			return
		}
		alpha := image.NewAlpha(bounds)
		angle := -0.42
		scale := float64(bounds.Dx()) / 800
		sin, cos := math.Sin(angle)*scale, math.Cos(angle)*scale
		// The middle of the word goes to the middle of the picture.
		toX := float64(bounds.Dx())/2 - cos*320 + sin*65
		toY := float64(bounds.Dy())/2 - sin*320 - cos*65
		xdraw.BiLinear.Transform(alpha, f64.Aff3{cos, -sin, toX, sin, cos, toY}, word.RGBA, word.Bounds(), xdraw.Over, nil)
		mask, _ = stamps.LoadOrStore(key, alpha)
	}
	draw.DrawMask(c.RGBA, bounds, image.NewUniform(color.NRGBA{R: 200, G: 24, B: 40, A: 80}), image.Point{}, mask.(*image.Alpha), image.Point{}, draw.Over)
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
