package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
)

// results are those of one benchmark, and the content of its JSON file. What was
// not run is empty.
type results struct {
	Date       string     `json:"date"` // RFC 3339
	Command    string     `json:"command"`
	Commit     string     `json:"commit,omitempty"`
	Machine    machine    `json:"machine"`
	Short      bool       `json:"short"`
	Rounds     int        `json:"rounds"`
	RunSeconds float64    `json:"run_s"`   // of one run under load
	Seconds    float64    `json:"total_s"` // of the whole
	Figures    []figure   `json:"figures"`
	Receive    []received `json:"receive,omitempty"`
	Filled     []filled   `json:"filled,omitempty"`
	Questions  []asked    `json:"questions,omitempty"`
	// SystemCacheKept reports that cold questions found the system's cache filled.
	SystemCacheKept bool `json:"system_cache_kept,omitempty"`
}

// machine is what the benchmark ran on.
type machine struct {
	OS       string `json:"os"`
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	Go       string `json:"go"`
	Postgres string `json:"postgres"`
	Wrk      string `json:"wrk"`
}

// figure is one line of the table of figures: a value, what it is compared
// with, and the target.
type figure struct {
	What     string  `json:"what"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	OverWhat string  `json:"over_what,omitempty"`
	Over     float64 `json:"over,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"`
	Target   string  `json:"target,omitempty"`
	Reached  *bool   `json:"reached,omitempty"` // nil without a target
	Detail   string  `json:"detail,omitempty"`

	// atLeast or atMost is the target of the ratio; 0 for none.
	atLeast, atMost float64
}

// compare adds a figure whose target, if it has one, is a ratio.
func (r *results) compare(f figure) {
	if f.Over > 0 {
		f.Ratio = f.Value / f.Over
	}
	switch {
	case f.atLeast > 0:
		f.Target = fmt.Sprintf(">= %g", f.atLeast)
		r.judge(f, f.Ratio >= f.atLeast)
	case f.atMost > 0:
		f.Target = fmt.Sprintf("<= %g", f.atMost)
		r.judge(f, f.Ratio <= f.atMost)
	default:
		r.Figures = append(r.Figures, f)
	}
}

// judge adds a figure that has reached its target or not.
func (r *results) judge(f figure, reached bool) {
	f.Reached = &reached
	r.Figures = append(r.Figures, f)
}

// print writes the tables.
func (r *results) print(out io.Writer) {
	m := r.Machine
	fmt.Fprintf(out, "\n%s  %s\n%d cores (%s, %s), %s, PostgreSQL %s, %s\n", r.Date, r.Command, m.Cores, m.CPU, m.OS, m.Go, m.Postgres, m.Wrk)
	fmt.Fprintf(out, "medians of %d interleaved runs of %.0f s, %.0f s in all; fsync and synchronous_commit on, Postgres at its defaults\n",
		r.Rounds, r.RunSeconds, r.Seconds)
	if r.Short {
		fmt.Fprintln(out, "A short run, with less data: its figures are only hints.")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush() // a failed write to stdout has nowhere to be reported
	if len(r.Receive) > 0 {
		r.printReceive(w)
	}
	if len(r.Questions) > 0 {
		r.printQuestions(w)
	}
	if len(r.Figures) > 0 {
		r.printFigures(w)
	}
}

func (r *results) printReceive(w io.Writer) {
	fmt.Fprintln(w, "\nCONNECTIONS\tSERVER\t CALLBACKS/S\tCALLBACKD IS\t P50 MS\t P99 MS\tCPU SERVER\tPOSTGRES\t WRK\tFSYNCS/S\tMEMORY MIB")
	for _, x := range r.Receive {
		m, times := x.Median, ""
		if x.Server != "callbackd" {
			times = fmt.Sprintf("%.2f times", r.of("callbackd", x.Connections).Rate/m.Rate)
		}
		fmt.Fprintf(w, "%11d\t%s\t%12.0f\t%12s\t%7.2f\t%7.2f\t%10s\t%8s\t%4s\t%8.0f\t%10s\n", x.Connections, x.Server, m.Rate, times,
			m.P50, m.P99, orDash("%.2f", m.CPUServer), orDash("%.2f", m.CPUPostgres), orDash("%.2f", m.CPUWrk), m.Fsyncs, orDash("%.0f", m.Memory))
	}
	fmt.Fprintln(w, "CPU in cores. SERVER: noop decodes and stores nothing, naive is one INSERT per request,")
	fmt.Fprintln(w, "jobtx a transaction with the INSERT and a River job per request. A 200 of callbackd, naive and jobtx is durable.")
}

// orDash returns a dash for a value that could not be measured on this system.
func orDash(format string, value float64) string {
	if value == 0 {
		return "-"
	}
	return fmt.Sprintf(format, value)
}

func (r *results) printFigures(w io.Writer) {
	fmt.Fprintln(w, "\nFIGURE\t      VALUE\tOVER\t      VALUE\t RATIO\tTARGET\tREACHED\t")
	for _, f := range r.Figures {
		over, ratio, reached := "", "", ""
		if f.Over > 0 {
			over, ratio = number(f.Over, f.Unit), fmt.Sprintf("%6.2f", f.Ratio)
		}
		if f.Reached != nil {
			reached = yesNo(*f.Reached)
		}
		fmt.Fprintf(w, "%s\t%11s\t%s\t%11s\t%6s\t%s\t%s\t%s\n", f.What, number(f.Value, f.Unit), f.OverWhat, over, ratio, f.Target, reached, f.Detail)
	}
}

// yesNo says whether a target was reached.
func yesNo(reached bool) string {
	if reached {
		return "yes"
	}
	return "NO"
}

// number formats the significant digits.
func number(value float64, unit string) string {
	switch {
	case unit == "/s" && value >= 100:
		return fmt.Sprintf("%.0f%s", value, unit)
	case unit == "ms" && value < 10:
		return fmt.Sprintf("%.3f %s", value, unit)
	case unit == "/s":
		return fmt.Sprintf("%.1f%s", value, unit)
	default:
		return fmt.Sprintf("%.0f %s", value, unit)
	}
}

// write makes name.json, name.svg when there is something to draw, and name.md and
// name-questions.svg for the questions.
func (r *results) write(dir, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // part of the repository
		return fmt.Errorf("write the results: %w", err)
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	files := map[string][]byte{".json": append(content, '\n')}
	if len(r.Receive) > 0 {
		if files[".svg"], err = r.chart(); err != nil {
			return fmt.Errorf("draw the chart: %w", err)
		}
	}
	if len(r.Questions) > 0 {
		files[".md"] = r.markdown()
		if files["-questions.svg"], err = r.questionChart(); err != nil {
			return err
		}
	}
	for extension, content := range files {
		path := filepath.Join(dir, name+extension)
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // part of the repository
			return fmt.Errorf("write the results: %w", err)
		}
		fmt.Fprintln(os.Stderr, "written:", path)
	}
	return nil
}
