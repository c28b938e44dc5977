package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// counts are how far the journeys have come.
type counts struct {
	received int // journeys of which a callback is stored
	finished int // journeys in an end state
	images   int // stored images
}

// progress shows how far the journeys have come: bars that are redrawn in
// place on a terminal, plain lines elsewhere.
type progress struct {
	out  io.Writer
	live bool
	all  counts

	shown bool // something has been
	last  counts
	at    time.Time
}

// show brings the display up to date; over says that it is the last time.
func (p *progress) show(now counts, over bool, at time.Time) {
	const plainInterval = time.Second
	switch {
	case p.live:
		p.draw(now)
	case over || now != p.last && at.Sub(p.at) >= plainInterval:
		fmt.Fprintf(p.out, "  received %d of %d, finished %d of %d, images %d of %d\n",
			now.received, p.all.received, now.finished, p.all.finished, now.images, p.all.images)
		p.last, p.at = now, at
	}
	p.shown = true
}

// draw writes the bars over the ones drawn before.
func (p *progress) draw(now counts) {
	var b strings.Builder
	if p.shown {
		b.WriteString("\x1b[3A") // three lines up
	}
	for _, stage := range []struct {
		name      string
		done, all int
	}{
		{"received", now.received, p.all.received},
		{"finished", now.finished, p.all.finished},
		{"images", now.images, p.all.images},
	} {
		const width = 40
		full := width
		if stage.all > 0 {
			full = min(width, width*stage.done/stage.all)
		}
		fmt.Fprintf(&b, "\r\x1b[K  %-9s [%s%s] %d of %d\n", // the line's old content goes
			stage.name, strings.Repeat("#", full), strings.Repeat(".", width-full), stage.done, stage.all)
	}
	_, _ = io.WriteString(p.out, b.String())
}
