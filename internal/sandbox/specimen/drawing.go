// Package specimen draws the invented documents and faces of the sandbox's
// journeys, and writes them as the files that Jumio would serve. Every picture
// says that it is a specimen.
package specimen

import (
	"fmt"
	"hash/fnv"
	"image"
	"image/color"
	"strings"
	"unicode/utf8"

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
	// flaw is the label that the image deserves, such as BLACK_WHITE.
	flaw string
}

// Of is what the part's picture shows.
func Of(p *journey.Part) Specimen {
	j := p.Journey()
	return Specimen{
		Holder: j.Holder, Document: j.Document, category: p.Category, classifier: p.Classifier,
		caption: j.Kind + "  ·  " + j.WorkflowExecutionID, flaw: j.Label(),
	}
}

// Anonymous shows nobody in particular.
func (s Specimen) Anonymous() Specimen {
	s.Holder = journey.Nobody
	s.Document = journey.Document{Kind: s.Document.Kind, Number: "XX0000000", PersonalNumber: "000000000"}
	s.caption, s.flaw = "", ""
	return s
}

var (
	ink   = rgb(0x1c2333)
	faint = rgb(0x5b6478)
	white = rgb(0xffffff)
)

// palettes are the sheet's and the accents' colours of each document.
var palettes = map[journey.DocumentType][2]color.NRGBA{
	journey.Passport:       {rgb(0xdfe8f6), rgb(0x1f3f7a)},
	journey.IDCard:         {rgb(0xe3f3ee), rgb(0x0f6b62)},
	journey.DrivingLicense: {rgb(0xfbe6ee), rgb(0xa3264f)},
	journey.Visa:           {rgb(0xeef3da), rgb(0x55702a)},
}

var numberLabels = map[journey.DocumentType]string{
	journey.Passport: "Passport no.", journey.Visa: "Visa no.", journey.DrivingLicense: "License no.", journey.IDCard: "Card no.",
}

func (s Specimen) draw() (image.Image, error) {
	var c *canvas
	switch {
	case s.category == "SELFIE":
		c = s.selfie()
	case s.classifier == "BACK":
		c = s.back()
	default:
		c = s.front()
	}
	if s.flaw == "BLACK_WHITE" || s.flaw == "PHOTOCOPY" {
		c.gray()
	}
	c.specimen()
	height := c.Bounds().Dy()
	c.rect(0, height-26, c.Bounds().Dx(), 26, ink)
	if s.category == "SELFIE" {
		c.text(10, height-9, regular, 12, rgb(0xc9d2e6), s.caption)
	} else {
		c.text(14, height-8, regular, 15, rgb(0xc9d2e6), "CALLBACKD SANDBOX  ·  "+s.caption)
	}
	return c.RGBA, c.err
}

// document is the empty sheet with its heading, and the colour of its accents.
func (s Specimen) document() (*canvas, color.NRGBA) {
	colors := palettes[s.Document.Kind]
	c := newCanvas(800, 530)
	if s.Document.Kind == journey.Passport || s.Document.Kind == journey.Visa {
		c = newCanvas(800, 590)
	}
	c.rect(0, 0, 800, 590, colors[0])
	c.waves(faded(colors[1], 40), 26, 16, 31)
	c.waves(faded(white, 120), 19, 22, 47)
	c.rect(0, 0, 800, 74, colors[1])
	c.text(28, 34, bold, 26, white, s.Holder.Country.Name)
	c.text(28, 60, regular, 17, mix(colors[1], white, 0.75), s.Document.Kind.Title()+"  ·  "+strings.ReplaceAll(s.classifier, "_", " "))
	c.rect(690, 14, 86, 46, mix(colors[1], white, 0.18))
	c.text(706, 47, bold, 28, white, s.Holder.Country.Code)
	return c, colors[1]
}

func (s Specimen) front() *canvas {
	c, accent := s.document()
	c.rect(28, 98, 214, 280, white)
	s.portrait(c, image.Rect(34, 104, 236, 372))

	h, doc := s.Holder, s.Document
	s.fields(c, 270, 118, accent, [][2]string{
		{"Surname", h.LastName},
		{"Given names", h.FirstName},
		{"Date of birth", h.Born.Format("02 Jan 2006")},
		{"Sex", h.Gender},
		{"Nationality", h.Country.Code},
		{"Place of birth", h.Country.City},
		{"Date of issue", doc.Issued.Format("02 Jan 2006")},
		{"Date of expiry", doc.Expires.Format("02 Jan 2006")},
		{numberLabels[doc.Kind], doc.Number},
		{"Type", strings.ReplaceAll(doc.SubType, "_", " ")},
	})
	switch doc.Kind {
	case journey.Passport, journey.Visa:
		c.rect(0, 456, 800, 108, faded(white, 215))
		for i, line := range h.MRZ(doc) {
			c.text(30, 498+i*42, mono, 28, ink, line)
		}
	case journey.DrivingLicense:
		c.text(652, 455, bold, 40, accent, "AM B")
	}
	c.text(30, 420, regular, 15, faint, "Signature")
	c.text(108, 424, regular, 22, rgb(0x27408b), strings.ToLower(h.FirstName+" "+h.LastName[:1])+".")
	return c
}

func (s Specimen) back() *canvas {
	c, accent := s.document()
	h, doc := s.Holder, s.Document
	s.fields(c, 40, 118, accent, [][2]string{
		{"Address", h.Address},
		{"City", h.PostalCode + " " + h.Country.City},
		{"Holder", h.FirstName + " " + h.LastName},
		{numberLabels[doc.Kind], doc.Number},
	})
	c.rect(0, 250, 800, 58, rgb(0x2b2f3a)) // magnetic stripe
	c.rect(0, 440, 800, 64, faded(white, 215))
	c.text(30, 482, mono, 28, ink, h.MRZ(doc)[1])
	return c
}

// fields writes label and value pairs in two columns.
func (s Specimen) fields(c *canvas, x, y int, accent color.Color, pairs [][2]string) {
	for i, pair := range pairs {
		left, top := x+i%2*270, y+i/2*62
		c.text(left, top, regular, 14, accent, pair[0])
		size := 23.0
		switch length := utf8.RuneCountInString(pair[1]); {
		case length > 21:
			size = 15
		case length > 16:
			size = 18
		}
		c.text(left, top+27, bold, size, ink, pair[1])
	}
}

func (s Specimen) selfie() *canvas {
	c := newCanvas(480, 640)
	s.portrait(c, image.Rect(0, 64, 480, 614))
	c.waves(faded(white, 60), 30, 9, 23)
	c.rect(0, 0, 480, 64, faded(ink, 210))
	c.text(20, 28, bold, 22, white, "SELFIE  ·  "+strings.ReplaceAll(s.classifier, "_", " "))
	c.text(20, 52, regular, 17, rgb(0xc9d2e6), s.Holder.FirstName+" "+s.Holder.LastName)
	return c
}

// look is what a person's face is drawn from.
type look struct {
	skin, hair, shirt, wall color.NRGBA
	long                    bool
}

// look depends on the name alone, so that selfie and document show the same
// face; it differs where the journey is about another person.
func (s Specimen) look() look {
	sum := fnv.New32a()
	fmt.Fprint(sum, s.Holder.FirstName, s.Holder.LastName)
	if s.category == "SELFIE" && (s.flaw == "NO_MATCH" || s.flaw == "FAILED") {
		fmt.Fprint(sum, "somebody else")
	}
	n := sum.Sum32()
	choose := func(shift uint, from ...uint32) color.NRGBA { return rgb(from[n>>shift%uint32(len(from))]) }
	return look{
		skin:  choose(3, 0xf3d3b8, 0xe0b08a, 0xc48a62, 0x8f5d3d, 0x6a4530),
		hair:  choose(7, 0x2a211c, 0x5b3a21, 0x9a6a35, 0xc9a15a, 0x8b8b90, 0x7c2f1d),
		shirt: choose(11, 0x35507a, 0x6d3b58, 0x3f6b4f, 0x80582c, 0x40454f),
		wall:  choose(15, 0x9fb4c9, 0xb6c6a8, 0xd0b9a2, 0xb3a8c9),
		long:  s.Holder.Gender == "F",
	}
}

// portrait draws head and shoulders into the box.
func (s Specimen) portrait(c *canvas, box image.Rectangle) {
	l := s.look()
	inner := newCanvas(box.Dx(), box.Dy())
	w, h := float64(box.Dx()), float64(box.Dy())
	inner.rect(0, 0, box.Dx(), box.Dy(), mix(l.wall, white, 0.4))
	cx, cy := w/2, h*0.43
	rx, ry := w*0.205, h*0.225
	if l.long {
		inner.ellipse(cx, cy+ry*0.35, rx*1.42, ry*1.55, l.hair)
	}
	inner.ellipse(cx, h*1.06, w*0.43, h*0.32, l.shirt)
	inner.rect(int(cx-rx*0.42), int(cy+ry*0.7), int(rx*0.84), int(ry*0.75), mix(l.skin, ink, 0.14))
	inner.ellipse(cx, h*0.775, rx*0.43, ry*0.24, mix(l.skin, ink, 0.14))
	inner.ellipse(cx-rx, cy+ry*0.05, rx*0.17, ry*0.2, mix(l.skin, ink, 0.1))
	inner.ellipse(cx+rx, cy+ry*0.05, rx*0.17, ry*0.2, mix(l.skin, ink, 0.1))
	inner.ellipse(cx, cy-ry*0.18, rx*1.1, ry*0.98, l.hair)
	inner.ellipse(cx, cy+ry*0.12, rx, ry*0.88, l.skin)
	for _, side := range []float64{-1, 1} {
		x, y := cx+side*rx*0.42, cy-ry*0.08
		inner.ellipse(x, y, rx*0.17, ry*0.085, white)
		inner.ellipse(x, y, rx*0.08, ry*0.075, ink)
		inner.ellipse(x, y-ry*0.21, rx*0.22, ry*0.035, mix(l.hair, ink, 0.3))
	}
	inner.ellipse(cx, cy+ry*0.22, rx*0.1, ry*0.12, mix(l.skin, ink, 0.13))
	inner.ellipse(cx, cy+ry*0.55, rx*0.3, ry*0.07, rgb(0xa9514b))
	inner.rect(int(cx-rx*0.3), int(cy+ry*0.53), int(rx*0.6), max(1, int(ry*0.03)), mix(rgb(0xa9514b), ink, 0.4))
	c.paste(inner, box.Min)
}
