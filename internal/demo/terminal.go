package demo

import (
	"bytes"
	"fmt"
	"image"
	_ "image/jpeg" // images out of the database
	_ "image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/image/draw"
	"golang.org/x/term"
)

// Colours of a terminal (ECMA-48, "Select Graphic Rendition").
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

// terminal is what the output can show.
type terminal struct {
	live    bool // lines can be drawn again
	colours bool // see no-color.org
	images  bool // 24-bit colours and UTF-8
}

func newTerminal(out io.Writer, environ []string) terminal {
	file, isFile := out.(*os.File)
	return terminalOf(isFile && term.IsTerminal(int(file.Fd())), environ)
}

func terminalOf(isTerminal bool, environ []string) terminal {
	set := func(name string, values ...string) bool {
		return slices.ContainsFunc(values, func(value string) bool { return slices.Contains(environ, name+"="+value) })
	}
	if !isTerminal || set("TERM", "dumb") {
		return terminal{}
	}
	if slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, "NO_COLOR=") && v != "NO_COLOR=" }) {
		return terminal{live: true}
	}
	return terminal{live: true, colours: true, images: set("COLORTERM", "truecolor", "24bit")}
}

// printImage shows an image out of the database: as a file until the demo ends,
// and drawn where the terminal can.
func (d *demo) printImage(r *report) error {
	if r.image == nil {
		return nil
	}
	i := r.image
	verdict := "intact"
	if !i.intact() {
		verdict = "NOT of these bytes"
	}
	fmt.Fprintf(d.Out, "\nAn image out of the database:\n  %s of %s, %s, %d x %d, %d bytes\n  SHA-256 %x... %s\n",
		i.Classifier, r.row(i.WorkflowExecutionID).UserReference, i.ContentType, i.Width, i.Height, len(i.Data), i.SHA256[:8], verdict)
	if !d.Once {
		path := filepath.Join(d.dir, i.Classifier+strings.Replace(i.ContentType, "image/", ".", 1))
		if err := os.WriteFile(path, i.Data, 0o600); err != nil {
			return fmt.Errorf("write an image: %w", err)
		}
		fmt.Fprintf(d.Out, "  %s\n", path)
	}
	if d.terminal.images {
		picture, _, err := image.Decode(bytes.NewReader(i.Data))
		if err != nil {
			return fmt.Errorf("decode an image: %w", err)
		}
		drawImage(d.Out, picture, 36)
	}
	return nil
}

// drawImage draws in half-block characters, each of them two pixels.
func drawImage(out io.Writer, picture image.Image, columns int) {
	size := picture.Bounds().Size()
	small := image.NewRGBA(image.Rect(0, 0, columns, columns*size.Y/size.X&^1))
	draw.ApproxBiLinear.Scale(small, small.Rect, picture, picture.Bounds(), draw.Src, nil)
	for y := 0; y < small.Rect.Dy(); y += 2 {
		var line strings.Builder
		for x := range columns {
			upper, lower := small.RGBAAt(x, y), small.RGBAAt(x, y+1)
			fmt.Fprintf(&line, "\x1b[38;2;%d;%d;%d;48;2;%d;%d;%dm▀", upper.R, upper.G, upper.B, lower.R, lower.G, lower.B)
		}
		fmt.Fprintf(out, "  %s%s\n", line.String(), reset)
	}
}
