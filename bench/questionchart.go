package main

import (
	"bytes"
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// questionChart draws the p99 of each question, warm, as an SVG: a bar for each size of
// the database. Its background is white on dark pages too.
func (r *results) questionChart() ([]byte, error) {
	plot.DefaultFont.Variant = "Sans"
	p := plot.New()
	p.Title.Text, p.X.Label.Text = "p99 of the answer time, everything in memory", "milliseconds"
	p.Title.Padding, p.Legend.Padding = vg.Points(8), vg.Points(2)
	const width = vg.Length(7)
	for i, f := range r.Filled {
		var values plotter.Values
		var names []string
		for _, a := range slices.Backward(r.Questions) { // the first one on top
			if a.Executions == f.Executions {
				values, names = append(values, a.Warm.P99), append(names, a.Question)
			}
		}
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return nil, fmt.Errorf("draw the questions: %w", err)
		}
		bars.Horizontal, bars.LineStyle.Width, bars.Color = true, 0, plotutil.Color(i)
		bars.Offset = -width * vg.Length(2*i-len(r.Filled)+1) / 2
		p.Add(bars)
		p.Legend.Add(fmt.Sprintf("%d workflow executions", f.Executions), bars)
		p.NominalY(names...)
	}
	p.X.Min = 0
	p.Add(plotter.NewGrid())
	svg := vgsvg.New(9*vg.Inch, 7*vg.Inch)
	canvas := draw.New(svg)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Path())
	p.Draw(draw.Crop(canvas, 12, -12, 12, -12))
	var out bytes.Buffer
	_, err := svg.WriteTo(&out)
	return out.Bytes(), err
}
