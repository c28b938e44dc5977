// Package specimen draws the invented documents and faces of the sandbox's
// journeys, and writes them as the files that Jumio would serve. Every picture
// says that it is a specimen.
package specimen

import (
	"hash/fnv"
	"image"
	"image/color"
	"image/draw"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"callbackd/internal/sandbox/journey"
)

// Specimen is what one picture shows.
type Specimen struct {
	Holder     journey.Person
	Document   journey.Document
	category   string
	classifier string
	// caption is the line at the bottom: the kind of journey and its id.
	caption string
}

// Of returns what the part's picture shows.
func Of(p *journey.Part) Specimen {
	j := p.Journey()
	document := j.Document
	if p.Category == "DOCUMENT" {
		document.Kind, document.SubType = "DOCUMENT", ""
	}
	return Specimen{
		Holder: j.Holder, Document: document, category: p.Category, classifier: p.Classifier,
		caption: j.Kind + "  " + j.WorkflowExecutionID,
	}
}

// Anonymous shows nobody in particular.
func (s Specimen) Anonymous() Specimen {
	s.Holder = journey.Nobody
	s.Document = journey.Document{Kind: s.Document.Kind, Number: "XX0000000", PersonalNumber: "000000000"}
	s.caption = ""
	return s
}

var (
	ink   = rgb(0x1c2333)
	white = rgb(0xffffff)
	stamp = color.NRGBA{R: 200, G: 24, B: 40, A: 80}
)

// palettes are the sheet's and the heading's colours of each document.
var palettes = map[journey.DocumentType][2]color.NRGBA{
	journey.Passport:       {rgb(0xdfe8f6), rgb(0x1f3f7a)},
	journey.IDCard:         {rgb(0xe3f3ee), rgb(0x0f6b62)},
	journey.DrivingLicense: {rgb(0xfbe6ee), rgb(0xa3264f)},
	journey.Visa:           {rgb(0xeef3da), rgb(0x55702a)},
	"DOCUMENT":             {rgb(0xf2f2ee), rgb(0x4a4a4a)},
}

func (s Specimen) draw() image.Image {
	var c canvas
	if s.category == "SELFIE" {
		c = newCanvas(480, 640)
		s.portrait(c, 0, 0, 480, 640)
		c.text(20, 36, 18, ink, s.classifier+"  "+s.Holder.FirstName+" "+s.Holder.LastName)
	} else {
		c = newCanvas(800, 530)
		s.sheet(c)
	}
	width, height := c.Rect.Dx(), c.Rect.Dy()
	c.text(width/11, height/2, float64(width)*0.17, stamp, "SPECIMEN")
	c.rect(0, height-24, width, 24, ink)
	c.text(8, height-8, 12, white, s.caption)
	return c.RGBA
}

// sheet draws one side of a document.
func (s Specimen) sheet(c canvas) {
	colors, h, doc := palettes[s.Document.Kind], s.Holder, s.Document
	c.rect(0, 0, 800, 530, colors[0])
	c.rect(0, 0, 800, 74, colors[1])
	c.text(28, 34, 26, white, h.Country.Name)
	c.text(28, 60, 17, white, strings.ReplaceAll(string(doc.Kind)+"  "+s.classifier, "_", " "))
	if s.classifier == "BACK" {
		c.fields(40, colors[1], "Address", h.Address, "City", h.PostalCode+" "+h.Country.City, "Number", doc.Number)
	} else {
		s.portrait(c, 28, 98, 214, 280)
		c.fields(270, colors[1], "Surname", h.LastName, "Given names", h.FirstName,
			"Date of birth", h.Born.Format(time.DateOnly), "Sex", h.Gender,
			"Nationality", h.Country.Code, "Place of birth", h.Country.City,
			"Date of issue", doc.Issued.Format(time.DateOnly), "Date of expiry", doc.Expires.Format(time.DateOnly),
			"Number", doc.Number, "Type", strings.ReplaceAll(doc.SubType, "_", " "))
	}
	c.rect(0, 412, 800, 90, white)
	for i, line := range h.MRZ(doc) {
		c.text(30, 448+i*38, 28, ink, line)
	}
}

// portrait draws head and shoulders. The colours depend on the name alone, so
// selfie and document show the same face.
func (s Specimen) portrait(c canvas, x, y, w, h int) {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(s.Holder.FirstName + s.Holder.LastName)) // a hash takes everything
	n := sum.Sum32()
	choose := func(shift uint, from ...uint32) color.Color { return rgb(from[n>>shift%uint32(len(from))]) }
	skin := choose(3, 0xf3d3b8, 0xe0b08a, 0xc48a62, 0x8f5d3d, 0x6a4530)
	hair := choose(7, 0x2a211c, 0x5b3a21, 0x9a6a35, 0xc9a15a, 0x8b8b90, 0x7c2f1d)
	c = canvas{c.SubImage(image.Rect(x, y, x+w, y+h)).(*image.RGBA)} // nothing hangs over the edge
	c.rect(x, y, w, h, choose(15, 0xc5d1dd, 0xd3dccb, 0xe3d5c8, 0xd1cade))
	oval := func(cx, cy, rx, ry int, fill color.Color) { // in per cent of the portrait
		c.ellipse(x+w*cx/100, y+h*cy/100, w*rx/100, h*ry/100, fill)
	}
	oval(50, 88, 40, 25, choose(11, 0x35507a, 0x6d3b58, 0x3f6b4f, 0x80582c, 0x40454f))
	if s.Holder.Gender == "F" {
		oval(50, 50, 29, 31, hair)
	}
	oval(50, 39, 23, 24, hair)
	oval(50, 45, 20, 20, skin)
	oval(42, 42, 3, 2, ink)
	oval(58, 42, 3, 2, ink)
	oval(50, 54, 6, 2, rgb(0xa9514b))
}

// canvas is a picture in the making.
type canvas struct{ *image.RGBA }

func newCanvas(width, height int) canvas {
	return canvas{image.NewRGBA(image.Rect(0, 0, width, height))}
}

func rgb(hex uint32) color.NRGBA {
	return color.NRGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 255}
}

func (c canvas) rect(x, y, w, h int, fill color.Color) {
	draw.Draw(c.RGBA, image.Rect(x, y, x+w, y+h), image.NewUniform(fill), image.Point{}, draw.Over)
}

func (c canvas) ellipse(cx, cy, rx, ry int, fill color.Color) {
	for y := -ry; y <= ry; y++ {
		for x := -rx; x <= rx; x++ {
			if x*x*ry*ry+y*y*rx*rx <= rx*rx*ry*ry {
				c.Set(cx+x, cy+y, fill)
			}
		}
	}
}

// fields writes pairs of label and value in two columns.
func (c canvas) fields(left int, label color.Color, texts ...string) {
	for i := 0; i+1 < len(texts); i += 2 {
		x, y, value := left+i/2%2*270, 110+i/4*60, texts[i+1]
		c.text(x, y, 14, label, texts[i])
		c.text(x, y+26, min(23, 430/float64(utf8.RuneCountInString(value)+1)), ink, value)
	}
}

// mono is safe for concurrent use; its faces are not.
var mono = sync.OnceValue(func() *opentype.Font {
	parsed, err := opentype.Parse(gomono.TTF)
	if err != nil {
		panic(err) // the module's own font
	}
	return parsed
})

// text writes a line whose baseline starts at x, y.
func (c canvas) text(x, y int, size float64, ink color.Color, line string) {
	face, _ := opentype.NewFace(mono(), &opentype.FaceOptions{Size: size, DPI: 72}) // only a bad font or size could fail
	d := font.Drawer{Dst: c.RGBA, Src: image.NewUniform(ink), Face: face, Dot: fixed.P(x, y)}
	d.DrawString(line)
}
