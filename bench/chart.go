package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
)

// The chart: rate and p99 against connections. It has its own background, so
// that it reads the same on a light and on a dark page.

const (
	chartWidth, chartHeight = 1060, 430
	plotTop, plotBottom     = 108, 352
	plotWidth               = 290
	labelDistance           = 15 // at least, between the names at the lines' ends
)

// line is how one server is drawn.
type line struct {
	server, name, color string
	width               float64
}

var lines = []line{
	{"noop", "stores nothing", "#6e7781", 1.8},
	{"naive", "one INSERT per request", "#bc4c00", 1.8},
	{"jobtx", "INSERT and River job", "#8250df", 1.8},
	{"callbackd", "callbackd", "#0969da", 3.2},
}

// panel is one of the two diagrams.
type panel struct {
	title  string
	left   float64 // of the plot
	figure func(measurement) float64
	ticks  []float64
	label  func(float64) string
	// height tells where between 0 (bottom) and 1 (top) a value stands.
	height func(float64) float64
}

// chart draws the medians of the scenario "receive" as an SVG.
func (r *results) chart() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" `+
		`font-family="-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif" font-size="12" role="img" `+
		`aria-label="Callbacks per second and 99th percentile of answer time against connections">
<rect x="0.5" y="0.5" width="%d" height="%d" rx="8" fill="#ffffff" stroke="#d0d7de"/>
<text x="24" y="36" font-size="18" font-weight="600" fill="#1f2328">Durable callbacks: rate and answer time</text>
<text x="24" y="57" fill="#59636e">%s</text>
`, chartWidth, chartHeight, chartWidth-1, chartHeight-1, html.EscapeString(fmt.Sprintf(
		"%d cores, PostgreSQL %s with fsync and synchronous_commit on, load generator on the same machine", r.Machine.Cores, r.Machine.Postgres)))
	r.draw(&b, r.ratePanel())
	r.draw(&b, r.p99Panel())
	short := ""
	if r.Short {
		short = " (a short run)"
	}
	fmt.Fprintf(&b, `<text x="24" y="%d" fill="#59636e" font-size="11">%s</text>
</svg>
`, chartHeight-18, html.EscapeString(fmt.Sprintf("%.10s · %s%s · %s, %s", r.Date, r.Command, short, r.Machine.CPU, r.Machine.Go)))
	return b.Bytes()
}

// ratePanel has a linear scale from 0.
func (r *results) ratePanel() panel {
	rate := func(m measurement) float64 { return m.Rate }
	step := niceStep(r.highest(rate) / 5)
	top := step * math.Ceil(r.highest(rate)/step)
	p := panel{
		title: "callbacks a second", left: 74, figure: rate, label: thousands,
		height: func(v float64) float64 { return v / top },
	}
	for tick := 0.0; tick <= top*1.001; tick += step {
		p.ticks = append(p.ticks, tick)
	}
	return p
}

// p99Panel has a logarithmic scale of whole decades.
func (r *results) p99Panel() panel {
	p99 := func(m measurement) float64 { return m.P99 }
	lowest := r.highest(p99)
	for _, x := range r.Receive {
		lowest = min(lowest, p99(x.Median))
	}
	from, to := math.Floor(math.Log10(lowest)), math.Ceil(math.Log10(r.highest(p99)))
	to = max(to, from+1)
	p := panel{
		title: "p99 of the answer time, milliseconds (logarithmic)", left: 590, figure: p99,
		label:  func(v float64) string { return fmt.Sprintf("%g", v) },
		height: func(v float64) float64 { return (math.Log10(v) - from) / (to - from) },
	}
	for exponent := from; exponent <= to; exponent++ {
		p.ticks = append(p.ticks, math.Pow(10, exponent))
	}
	return p
}

func (r *results) highest(figure func(measurement) float64) float64 {
	var highest float64
	for _, x := range r.Receive {
		highest = max(highest, figure(x.Median))
	}
	return highest
}

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(step float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, factor := range []float64{1, 2, 5} {
		if step <= factor*power {
			return factor * power
		}
	}
	return 10 * power
}

func thousands(v float64) string {
	if v < 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%gk", math.Round(v/100)/10)
}

// draw writes one panel: grid, lines, and the lines' names at their ends.
func (r *results) draw(w io.Writer, p panel) {
	y := func(v float64) float64 { return plotBottom - p.height(v)*(plotBottom-plotTop) }
	x := func(i int) float64 { return p.left + plotWidth*float64(i)/float64(len(connectionCounts)-1) }
	fmt.Fprintf(w, "<text x=\"%.0f\" y=\"%d\" font-weight=\"600\" fill=\"#1f2328\">%s</text>\n", p.left-50, plotTop-20, p.title)
	for _, tick := range p.ticks {
		fmt.Fprintf(w, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#d8dee4\"/>\n", p.left-8, p.left+plotWidth+8, y(tick), y(tick))
		fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" fill=\"#59636e\">%s</text>\n", p.left-14, y(tick)+4, p.label(tick))
	}
	for i, connections := range connectionCounts {
		fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" fill=\"#59636e\">%d</text>\n", x(i), plotBottom+20, connections)
	}
	fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" fill=\"#59636e\">connections</text>\n", p.left+plotWidth/2, plotBottom+38)

	ends := make([]float64, len(lines))
	for n, l := range lines {
		fmt.Fprintf(w, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%g\" stroke-linejoin=\"round\" points=\"", l.color, l.width)
		for i, connections := range connectionCounts {
			ends[n] = y(p.figure(r.of(l.server, connections)))
			fmt.Fprintf(w, "%.1f,%.1f ", x(i), ends[n])
		}
		fmt.Fprint(w, "\"/>\n")
		for i, connections := range connectionCounts {
			fmt.Fprintf(w, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\"/>\n",
				x(i), y(p.figure(r.of(l.server, connections))), l.width+0.8, l.color)
		}
	}
	for n, at := range spread(ends) {
		l := lines[n]
		fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\" font-weight=\"600\">%s</text>\n", p.left+plotWidth+14, at+4, l.color, l.name)
	}
}

// spread moves positions apart that lie too close together for their names.
func spread(at []float64) []float64 {
	order := make([]int, len(at))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(at[a], at[b]) })
	out := slices.Clone(at)
	for n := 1; n < len(order); n++ {
		out[order[n]] = max(out[order[n]], out[order[n-1]]+labelDistance)
	}
	return out
}
