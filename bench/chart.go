package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// chartNames are the servers' names in the chart.
var chartNames = map[string]string{
	"callbackd": "callbackd", "noop": "stores nothing", "naive": "one INSERT per request", "jobtx": "INSERT and River job",
}

// chart draws the medians of the scenario "receive" as an SVG: rate and p99
// against connections. Its background is white on dark pages too.
func (r *results) chart() ([]byte, error) {
	rate, err := r.panel("callbacks a second", func(m measurement) float64 { return m.Rate })
	if err != nil {
		return nil, err
	}
	rate.Y.Min, rate.Legend = 0, plot.NewLegend() // one legend, where it covers no line
	p99, err := r.panel("p99 of the answer time, milliseconds (logarithmic)", func(m measurement) float64 { return m.P99 })
	if err != nil {
		return nil, err
	}
	y := &p99.Y
	y.Scale, y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	y.Min, y.Max = math.Pow(10, math.Floor(math.Log10(y.Min))), math.Pow(10, math.Ceil(math.Log10(y.Max))) // whole decades
	p99.Legend.Top, p99.Legend.Left = true, true

	svg := vgsvg.New(11*vg.Inch, 4.5*vg.Inch)
	canvas := draw.New(svg)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Path())
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadTop: 12, PadBottom: 30, PadLeft: 12, PadRight: 12, PadX: 24}
	rate.Draw(tiles.At(canvas, 0, 0))
	p99.Draw(tiles.At(canvas, 1, 0))
	caption := fmt.Sprintf("%.10s · %s · %d cores (%s), PostgreSQL %s with fsync and synchronous_commit on, load generator on the same machine",
		r.Date, r.Command, r.Machine.Cores, r.Machine.CPU, r.Machine.Postgres)
	small := p99.Legend.TextStyle
	small.Font.Size = 9
	canvas.FillText(small, vg.Point{X: 12, Y: 12}, caption)
	var out bytes.Buffer
	_, err = svg.WriteTo(&out)
	return out.Bytes(), err
}

// panel plots a figure of every server against the number of connections.
func (r *results) panel(title string, figure func(measurement) float64) (*plot.Plot, error) {
	plot.DefaultFont.Variant = "Sans"
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, "connections"
	p.Title.Padding, p.Legend.Padding = vg.Points(8), vg.Points(2)
	var lines []any
	for _, server := range []string{"callbackd", "noop", "naive", "jobtx"} {
		points := make(plotter.XYs, len(connectionCounts))
		for i, connections := range connectionCounts {
			points[i] = plotter.XY{X: float64(i), Y: figure(r.of(server, connections))}
		}
		lines = append(lines, chartNames[server], points)
	}
	var ticks plot.ConstantTicks
	for i, connections := range connectionCounts {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: strconv.Itoa(connections)})
	}
	p.X.Tick.Marker = ticks
	p.Add(plotter.NewGrid())
	return p, plotutil.AddLinePoints(p, lines...)
}
