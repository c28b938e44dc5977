//go:build deploy

package deploytest

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"image/color"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The screenshot: a page of all panels at their places in the dashboard's grid,
// drawn from what Prometheus returned and turned into a PNG by a browser. It is not
// Grafana: colours, types, units, thresholds, overrides and legends are followed
// as far as the dashboard uses them.

const (
	cellWidth, cellHeight = 66, 38 // pixels of a place in the grid
	cellGap               = 8
	drawnSteps            = 240 // samples in a panel
)

// The colours that the dashboard names, as on a dark page.
var drawnColors = map[string]string{
	"green": "#3f9c55", "yellow": "#d9a514", "red": "#d64550", "blue": "#4d84d6", "orange": "#e0762f", "purple": "#9a63c4", "text": "#d5d6de",
}

// drawnPalette is for series without a colour of their own.
var drawnPalette = []string{
	"#56a64b", "#f2cc0c", "#3274d9", "#ff780a", "#e02f44", "#8f3bb8", "#37872d", "#8ab8ff", "#ffa6b0", "#c4162a", "#fade2a", "#b877d9", "#96d98d", "#1f60c4",
}

// drawnSeries is one line of a panel.
type drawnSeries struct {
	name, color string
	field       fieldConfig
	points      map[int]float64 // by the step
}

type (
	drawnPage struct {
		Title, Description, From, To string
		Width, Height                int
		Panels                       []drawnPanel
	}
	drawnPanel struct {
		Type, Title              string
		Left, Top, Width, Height int
		Stats                    []drawnStat
		SVG                      template.HTML
		Legend                   []drawnLegend
		Header                   []string
		Rows                     [][]string
	}
	drawnStat   struct{ Name, Value, Color, Background string }
	drawnLegend struct{ Name, Color string }
)

// screenshot draws the dashboard as it is now.
func (p *prometheus) screenshot(path string) {
	p.t.Helper()
	now := time.Now()
	step := max(2*time.Second, now.Sub(p.start).Truncate(time.Second)/drawnSteps).Truncate(time.Second)
	d := readDashboard(p.t)
	page := drawnPage{
		Title: d.Title, Description: d.Description, Width: 24*cellWidth + cellGap,
		From: p.start.UTC().Format("2006-01-02 15:04"), To: now.UTC().Format("15:04 UTC"),
	}
	for _, panel := range d.Panels {
		drawn := drawnPanel{
			Type: panel.Type, Title: panel.Title, Left: panel.Grid.X*cellWidth + cellGap, Top: panel.Grid.Y * cellHeight,
			Width: panel.Grid.W*cellWidth - cellGap, Height: panel.Grid.H*cellHeight - cellGap,
		}
		switch panel.Type {
		case "stat":
			drawn.Stats = p.stats(&panel, now)
		case "table":
			drawn.Header, drawn.Rows = p.table(&panel, now)
		case "timeseries":
			drawn.SVG, drawn.Legend = p.chart(&panel, now, step, drawn.Width-16, drawn.Height-62)
		}
		page.Panels = append(page.Panels, drawn)
		page.Height = max(page.Height, drawn.Top+drawn.Height)
	}
	var html bytes.Buffer
	if err := drawnTemplate.Execute(&html, page); err != nil {
		p.t.Fatal(err)
	}
	dir := p.t.TempDir()
	file := filepath.Join(dir, "dashboard.html")
	if err := os.WriteFile(file, html.Bytes(), 0o600); err != nil {
		p.t.Fatal(err)
	}
	const head = 96 // the page's title and foot
	browser := exec.CommandContext(p.t.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
		"--user-data-dir="+filepath.Join(dir, "browser"), fmt.Sprintf("--window-size=%d,%d", page.Width, page.Height+head), "--screenshot="+path, "file://"+file)
	if out, err := browser.CombinedOutput(); err != nil {
		p.t.Fatalf("chromium: %v\n%s", err, out)
	}
	p.t.Logf("drawn: %s, from %s to %s, a sample each %s", path, page.From, page.To, step)
}

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// legendOf is a series' name: the target's legend with the labels' values.
func legendOf(target *dashboardTarget, metric map[string]string) string {
	return legendLabel.ReplaceAllStringFunc(target.Legend, func(s string) string { return metric[legendLabel.FindStringSubmatch(s)[1]] })
}

func (p *prometheus) stats(panel *dashboardPanel, now time.Time) (stats []drawnStat) {
	p.t.Helper()
	for _, target := range panel.Targets {
		for _, s := range p.answer(&target, now, time.Second) {
			f, err := panel.field(target.RefID, legendOf(&target, s.Metric))
			if err != nil {
				p.t.Fatal(err)
			}
			stat := drawnStat{Value: formatValue(f, s.last()), Color: "#ffffff", Background: stepColor(f, s.last())}
			if panel.Options.TextMode == "value_and_name" {
				stat.Name = legendOf(&target, s.Metric)
			}
			if panel.Options.ColorMode == "value" {
				stat.Color, stat.Background = stat.Background, "none"
			}
			stats = append(stats, stat)
		}
	}
	return stats
}

// stepColor is that of the highest threshold that the value reaches.
func stepColor(f fieldConfig, value float64) string {
	name := "green"
	if f.Thresholds != nil {
		for _, step := range f.Thresholds.Steps {
			if step.Value == nil || value >= *step.Value {
				name = step.Color
			}
		}
	}
	return drawnColors[name]
}

// table shows the labels that the panel's transformation leaves.
func (p *prometheus) table(panel *dashboardPanel, now time.Time) (header []string, rows [][]string) {
	p.t.Helper()
	options := panel.Transformations[0].Options
	for _, s := range p.answer(&panel.Targets[0], now, time.Second) {
		header = slices.SortedFunc(maps.Keys(s.Metric), func(a, b string) int {
			return cmp.Compare(options.IndexByName[a], options.IndexByName[b])
		})
		header = slices.DeleteFunc(header, func(name string) bool { return options.ExcludeByName[name] })
		var row []string
		for _, name := range header {
			row = append(row, s.Metric[name])
		}
		rows = append(rows, row)
	}
	return header, rows
}

// chart draws a panel's series.
func (p *prometheus) chart(panel *dashboardPanel, now time.Time, step time.Duration, width, height int) (template.HTML, []drawnLegend) {
	p.t.Helper()
	first := p.start.Unix()
	var all []drawnSeries
	for _, target := range panel.Targets {
		for _, s := range p.answer(&target, now, step) {
			series := drawnSeries{name: legendOf(&target, s.Metric), points: map[int]float64{}}
			var err error
			if series.field, err = panel.field(target.RefID, series.name); err != nil {
				p.t.Fatal(err)
			}
			for _, point := range s.points() {
				series.points[int(math.Round((point[0]-float64(first))/step.Seconds()))] = point[1]
			}
			if len(series.points) > 0 {
				all = append(all, series)
			}
		}
	}
	var legend []drawnLegend
	for i := range all {
		all[i].color = drawnPalette[i%len(drawnPalette)]
		if c := all[i].field.Color; c.Mode == "fixed" {
			all[i].color = drawnColors[c.FixedColor]
		}
		legend = append(legend, drawnLegend{all[i].name, all[i].color})
	}
	canvas := drawing{plot: plot.New(), field: panel.FieldConfig.Defaults, steps: int(now.Sub(p.start) / step), step: step, start: p.start}
	if err := canvas.draw(all); err != nil {
		p.t.Fatalf("draw %s: %v", panel.Title, err)
	}
	svg := vgsvg.New(vg.Length(width)*pixel, vg.Length(height)*pixel)
	canvas.plot.Draw(draw.New(svg))
	var text bytes.Buffer
	if _, err := svg.WriteTo(&text); err != nil {
		p.t.Fatal(err)
	}
	// Without the XML declaration it can stand in a page.
	_, element, _ := strings.Cut(text.String(), "<svg")
	return template.HTML("<svg" + element), legend
}

// drawing is a plot with its scales.
type drawing struct {
	plot  *plot.Plot
	field fieldConfig
	steps int
	step  time.Duration
	start time.Time
	top   float64
}

func (d *drawing) draw(all []drawnSeries) error {
	d.dress()
	if d.logarithmic() {
		d.plot.Y.Scale = plot.LogScale{}
	}
	below := make([]float64, d.steps+1)
	for _, s := range all {
		var err error
		if s.field.Custom.Stacking.Mode == "normal" {
			err = d.area(s, below)
		} else {
			err = d.lines(s)
		}
		if err != nil {
			return err
		}
	}
	d.scaleY()
	return d.thresholds()
}

func (d *drawing) logarithmic() bool { return d.field.Custom.ScaleDistribution.Type == "log" }

// area fills between what lies below and that with the series on top.
func (d *drawing) area(s drawnSeries, below []float64) error {
	var upper, lower plotter.XYs
	for i := range below {
		x, y := float64(i), below[i]+s.points[i]
		if s.field.Custom.DrawStyle == "bars" { // as wide as the step
			upper = append(upper, plotter.XY{X: x - 0.5, Y: y}, plotter.XY{X: x + 0.5, Y: y})
			lower = append(lower, plotter.XY{X: x - 0.5, Y: below[i]}, plotter.XY{X: x + 0.5, Y: below[i]})
		} else {
			upper = append(upper, plotter.XY{X: x, Y: y})
			lower = append(lower, plotter.XY{X: x, Y: below[i]})
		}
		below[i] = y
		d.top = max(d.top, y)
	}
	slices.Reverse(lower)
	polygon, err := plotter.NewPolygon(append(upper, lower...))
	if err != nil {
		return err
	}
	polygon.Color = paint(s.color, max(s.field.Custom.FillOpacity, 60)/100)
	polygon.Width = 0
	d.plot.Add(polygon)
	return nil
}

// lines draws the series, with gaps where data is missing.
func (d *drawing) lines(s drawnSeries) error {
	var part plotter.XYs
	flush := func() error {
		if len(part) == 0 {
			return nil
		}
		if len(part) == 1 { // a dot would not be seen
			part = append(part, plotter.XY{X: part[0].X + 0.5, Y: part[0].Y})
		}
		line, err := plotter.NewLine(part)
		if err != nil {
			return err
		}
		line.Color, line.Width = paint(s.color, 1), 1.5*pixel
		if s.field.Custom.LineStyle.Fill == "dash" {
			line.Dashes = []vg.Length{6 * pixel, 4 * pixel}
		}
		d.plot.Add(line)
		part = nil
		return nil
	}
	for i := range d.steps + 1 {
		y, found := s.points[i]
		if !found || d.logarithmic() && y <= 0 {
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		part = append(part, plotter.XY{X: float64(i), Y: y})
		d.top = max(d.top, y)
	}
	return flush()
}

// thresholds are lines where they are within what is shown.
func (d *drawing) thresholds() error {
	if d.field.Thresholds == nil || d.field.Custom.ThresholdsStyle.Mode != "dashed" {
		return nil
	}
	for _, step := range d.field.Thresholds.Steps {
		if step.Value == nil || *step.Value > d.plot.Y.Max || *step.Value < d.plot.Y.Min {
			continue
		}
		line, err := plotter.NewLine(plotter.XYs{{X: 0, Y: *step.Value}, {X: float64(d.steps), Y: *step.Value}})
		if err != nil {
			return err
		}
		line.Color, line.Width, line.Dashes = paint(drawnColors[step.Color], 1), pixel, []vg.Length{4 * pixel, 4 * pixel}
		d.plot.Add(line)
	}
	return nil
}

const pixel = vg.Inch / 96

// dress styles the plot for a dark page, with the time below.
func (d *drawing) dress() {
	p, grey := d.plot, paint("#9fa1ad", 1)
	p.BackgroundColor = color.Transparent
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Width = 0
		axis.Tick.Width = 0
		axis.Tick.Label.Color = grey
		axis.Tick.Label.Font.Variant = "Sans"
		axis.Tick.Label.Font.Size = 11 * pixel
		axis.Padding = 0
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Horizontal.Width = paint("#ffffff", 0.09), pixel
	grid.Vertical.Color, grid.Vertical.Width = paint("#ffffff", 0.05), pixel
	p.Add(grid)
	p.X.Min, p.X.Max = 0, float64(d.steps)
	p.X.Tick.Marker = plot.TickerFunc(func(_, _ float64) (ticks []plot.Tick) {
		every := time.Minute
		for _, wider := range []time.Duration{2 * time.Minute, 5 * time.Minute, 10 * time.Minute} {
			if time.Duration(d.steps)*d.step > 6*every {
				every = wider
			}
		}
		end := d.start.Add(time.Duration(d.steps) * d.step)
		for at := d.start.Truncate(every).Add(every); at.Before(end); at = at.Add(every) {
			ticks = append(ticks, plot.Tick{Value: float64(at.Sub(d.start)) / float64(d.step), Label: at.UTC().Format("15:04")})
		}
		return ticks
	})
}

// scaleY is called when the data is known.
func (d *drawing) scaleY() {
	y := &d.plot.Y
	if d.logarithmic() {
		y.Min, y.Max = math.Pow(10, math.Floor(math.Log10(y.Min))), math.Pow(10, math.Ceil(math.Log10(y.Max)))
		y.Tick.Marker = plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
			for v := low; v <= high*1.01; v *= 10 {
				ticks = append(ticks, plot.Tick{Value: v, Label: formatValue(d.field, v)})
			}
			return ticks
		})
		return
	}
	y.Min, y.Max = 0, d.top*1.08
	if d.field.Max != nil {
		y.Max = *d.field.Max
	}
	if y.Max == 0 {
		y.Max = 1
	}
	y.Tick.Marker = plot.TickerFunc(func(_, high float64) (ticks []plot.Tick) {
		whole := 1.0
		if d.field.Unit == "bytes" {
			whole = 1 << 20
		}
		step := niceStep(high/4/whole) * whole
		for n := 0.0; n*step <= high; n++ {
			ticks = append(ticks, plot.Tick{Value: n * step, Label: formatValue(d.field, n*step)})
		}
		return ticks
	})
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

func paint(hex string, opacity float64) color.Color {
	var r, g, b uint8
	_, _ = fmt.Sscanf(hex, "#%02x%02x%02x", &r, &g, &b) // a colour of this file
	return color.NRGBA{r, g, b, uint8(opacity * 255)}
}

// formatValue shows a value in its unit.
func formatValue(f fieldConfig, v float64) string {
	scaled := func(v float64, base float64, names ...string) string {
		for v >= base && len(names) > 1 {
			v, names = v/base, names[1:]
		}
		return fmt.Sprintf("%.3g %s", v, names[0])
	}
	switch {
	case math.IsNaN(v):
		return "no data"
	case f.Unit == "percentunit":
		return fmt.Sprintf("%.3g %%", v*100)
	case f.Unit == "bytes":
		return scaled(v, 1024, "B", "KiB", "MiB", "GiB")
	case f.Unit == "Bps":
		return scaled(v, 1000, "B/s", "kB/s", "MB/s")
	case f.Unit == "s" && v == 0:
		return "0 s"
	case f.Unit == "s" && v < 1:
		return scaled(v*1e6, 1000, "µs", "ms")
	case f.Unit == "s" && v < 120:
		return fmt.Sprintf("%.3g s", v)
	case f.Unit == "s":
		return scaled(v/60, 60, "min", "h")
	case f.Decimals != nil:
		return fmt.Sprintf("%.*f", *f.Decimals, v)
	}
	return fmt.Sprintf("%.6g", v)
}

var drawnTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<meta charset="utf-8">
<style>
body { margin: 0; background: #101114; color: #d5d6de; font: 13px "Liberation Sans", "DejaVu Sans", sans-serif; }
h1 { margin: 0; padding: 14px 8px 12px; font-size: 19px; font-weight: 600; }
h1 small { font-size: 13px; font-weight: 400; color: #9fa1ad; margin-left: 14px; }
.grid { position: relative; height: {{.Height}}px; }
.panel { position: absolute; box-sizing: border-box; background: #181a1f; border: 1px solid #26282f; border-radius: 3px; overflow: hidden; }
.panel.row { background: none; border: none; }
.panel.row h2 { font-size: 15px; padding: 5px 2px; }
h2 { margin: 0; padding: 6px 8px 2px; font-size: 13px; font-weight: 600; white-space: nowrap; }
.stats { display: flex; gap: 4px; padding: 3px 6px 6px; height: calc(100% - 34px); }
.tile { flex: 1; display: flex; flex-direction: column; justify-content: center; align-items: center; border-radius: 3px; }
.tile b { font-size: 34px; font-weight: 600; white-space: nowrap; }
.stats:has(.tile + .tile) .tile b { font-size: 26px; }
.tile span { font-size: 13px; opacity: .9; }
.chart { padding: 2px 8px 0; }
.legend { padding: 0 10px; font-size: 11px; line-height: 14px; max-height: 28px; overflow: hidden; color: #b9bac4; }
.legend span { white-space: nowrap; display: inline-block; }
.legend i { display: inline-block; width: 11px; height: 4px; border-radius: 2px; margin: 0 4px 2px 8px; }
table { border-collapse: collapse; margin: 6px 8px; font-size: 12px; }
td, th { text-align: left; padding: 4px 12px 4px 0; white-space: nowrap; max-width: 150px; overflow: hidden; text-overflow: ellipsis; }
footer { padding: 6px 8px; font-size: 12px; color: #9fa1ad; }
</style>
<h1>{{.Title}}<small>{{.From}} to {{.To}}</small></h1>
<div class="grid">
{{range .Panels}}<div class="panel {{.Type}}" style="left:{{.Left}}px;top:{{.Top}}px;width:{{.Width}}px;height:{{.Height}}px">
<h2>{{.Title}}</h2>
{{if .Stats}}<div class="stats">{{range .Stats}}<div class="tile" style="color:{{.Color}};background:{{.Background}}"><b>{{.Value}}</b><span>{{.Name}}</span></div>{{end}}</div>{{end}}
{{if .SVG}}<div class="chart">{{.SVG}}</div><div class="legend">{{range .Legend}}<span><i style="background:{{.Color}}"></i>{{.Name}}</span> {{end}}</div>{{end}}
{{if .Rows}}<table><tr>{{range .Header}}<th>{{.}}</th>{{end}}</tr>{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>{{end}}</table>{{end}}
</div>
{{end}}</div>
<footer>deploy/grafana/dashboards/callbackd.json, drawn by make screenshot from what a real Prometheus returned. A rendering, not Grafana.</footer>
`))
