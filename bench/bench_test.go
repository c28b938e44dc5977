package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const wrkOutput = `Running 1s test @ http://127.0.0.1:19999/jumio/callback
  2 threads and 64 connections
Requests/sec:  32253.39
result {"requests":34493,"duration":1069438,"p50":1513,"p99":7804,"errors":{"status":0,"connect":0,"read":0,"write":0,"timeout":0}}
`

func TestParseLoad(t *testing.T) {
	l, err := parseLoad([]byte(wrkOutput))
	if err != nil {
		t.Fatal(err)
	}
	if l.Requests != 34493 || l.P50 != 1513 || l.P99 != 7804 {
		t.Errorf("got %+v", l)
	}
	if got := l.rate(); got < 32253 || got > 32254 {
		t.Errorf("rate %g, wrk itself said 32253.39", got)
	}
}

func TestParseLoadRejects(t *testing.T) {
	for name, out := range map[string]string{
		"no result":               "unable to connect to 127.0.0.1:1 Connection refused\n",
		"no JSON":                 "result ?\n",
		"no answer":               strings.Replace(wrkOutput, `"requests":34493`, `"requests":0`, 1),
		"one answer of 503":       strings.Replace(wrkOutput, `"status":0`, `"status":1`, 1),
		"one broken connection":   strings.Replace(wrkOutput, `"read":0`, `"read":1`, 1),
		"one answer far too late": strings.Replace(wrkOutput, `"timeout":0`, `"timeout":1`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if l, err := parseLoad([]byte(out)); err == nil {
				t.Errorf("accepted as %+v", l)
			}
		})
	}
}

func TestCheckStored(t *testing.T) {
	for _, c := range []struct {
		name             string
		answered, stored int
		ok               bool
	}{
		{"each answer has its row", 100, 100, true},
		{"some answers were still under way", 100, 108, true},
		{"a 200 without its row", 100, 99, false},
		{"more rows than requests", 100, 109, false},
	} {
		if err := checkStored("it", c.answered, c.stored, 8); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1}, 5},
		{[]float64{5, 1, 100}, 5},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v = %g, want %g", c.values, got, c.want)
		}
	}
}

// TestMedians: each figure by itself, so that no figure is forgotten.
func TestMedians(t *testing.T) {
	one := measurement{1, 2, 3, 4, 5, 6, 7, 8, 9}
	three := measurement{3, 4, 5, 6, 7, 8, 9, 10, 30}
	want := measurement{2, 3, 4, 5, 6, 7, 8, 9, 39}
	if diff := cmp.Diff(want, medians([]measurement{one, three})); diff != "" {
		t.Error(diff)
	}
}

func TestBounded(t *testing.T) {
	for _, c := range []struct {
		name    string
		backlog []int
		want    bool
	}{
		{"never any", []int{0, 0, 0, 0}, true},
		{"level", []int{900, 5000, 5100, 4800, 5200, 5000}, true},
		{"grows without end", []int{5000, 10000, 15000, 20000, 25000, 30000}, false},
		{"a moment's worth at the end", []int{0, 0, 0, 900}, true},
		{"no sample", nil, true},
	} {
		if got := bounded(c.backlog, 1000); got != c.want {
			t.Errorf("%s: bounded = %v", c.name, got)
		}
	}
}

func TestParsePgbenchLog(t *testing.T) {
	got, err := parsePgbenchLog([]float64{1}, "0 1 246 0 1763849253 8125\n0 2 1250 0 1763849253 8400\n")
	if diff := cmp.Diff([]float64{1, 0.246, 1.25}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, line := range []string{"0 1\n", "0 1 skipped 0 1763849253 8125\n"} {
		if got, err := parsePgbenchLog(nil, line); err == nil {
			t.Errorf("%q accepted as %v", line, got)
		}
	}
}

func testResults() *results {
	r := &results{Command: `go run ./bench -only "a<b&c"`, Machine: machine{CPU: "<Some> & CPU", Cores: 2}}
	for i, connections := range connectionCounts {
		for n, c := range contestants() {
			m := measurement{Rate: float64((i + 1) * (n + 1) * 1000), P50: 0.5, P99: float64(i*n) + 0.3, Memory: 40}
			r.Receive = append(r.Receive, received{c.name, connections, m})
		}
	}
	r.receiveFigures()
	return r
}

// TestChart: well-formed, every server named, every number finite.
func TestChart(t *testing.T) {
	svg, err := testResults().chart()
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]bool{}
	decoder := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			texts[string(text)] = true
		}
	}
	for _, c := range contestants() {
		if name := chartNames[c.name]; name == "" || !texts[name] {
			t.Errorf("the chart does not name %s", c.name)
		}
	}
	for _, bad := range []string{"NaN", "Inf", "%!"} {
		if strings.Contains(string(svg), bad) {
			t.Errorf("the chart holds %s", bad)
		}
	}
}

func TestFigures(t *testing.T) {
	r := testResults()
	r.compare(figure{What: "as fast as it should be", Value: 9, Over: 10, atLeast: 0.9})
	r.compare(figure{What: "too slow", Value: 7, Over: 10, atMost: 0.6})
	r.compare(figure{What: "no target", Value: 7, Over: 10})
	var b strings.Builder
	r.print(&b)
	for _, want := range [][]string{
		{"as fast as it should be", "0.90", ">= 0.9", "yes"},
		{"too slow", "0.70", "<= 0.6", "NO"},
		{"no target", "0.70"},
		{"receiver's memory", "40 MiB", "< 64 MiB", "yes"},
	} {
		var line string
		for l := range strings.Lines(b.String()) {
			if strings.HasPrefix(l, want[0]) {
				line = l
			}
		}
		for _, part := range want {
			if !strings.Contains(line, part) {
				t.Errorf("the line of %q lacks %q: %q", want[0], part, line)
			}
		}
	}
}

func TestPromotionFigure(t *testing.T) {
	level, growing := []int{500, 900, 800, 900}, []int{5000, 10000, 15000, 20000}
	for _, c := range []struct {
		name    string
		p       promoted
		reached bool
		detail  string
	}{
		{"keeps up", promoted{Backlog: level, Emptied: true, EmptyAfter: 0.3}, true, "backlog at most 900, empty after 0.3 s"},
		{"grows", promoted{Backlog: growing, Emptied: true, EmptyAfter: 5}, false, "backlog at most 20000, empty after 5.0 s"},
		{"empty too late", promoted{Backlog: level, Emptied: true, EmptyAfter: 10.1}, false, "backlog at most 900, empty after 10.1 s"},
		{"never empty", promoted{Backlog: level, EmptyAfter: 20}, false, "backlog at most 900, not empty after 20 s"},
	} {
		var r results
		c.p.Status, c.p.Seconds, c.p.ReceivedRate, c.p.PromotedRate = processed, 60, 1000, 900
		r.addPromotion(c.p)
		if f := r.Figures[0]; *f.Reached != c.reached || f.Detail != c.detail || f.Target != "bounded for 60 s, empty in 10 s" {
			t.Errorf("%s: %+v, reached %v", c.name, f, *f.Reached)
		}
	}
}

func TestSettings(t *testing.T) {
	full, err := parseSettings(nil, io.Discard)
	if err != nil || full.rounds != 5 || full.duration != 6*time.Second || full.fillRows != 10_000_000 || full.executions != 5_000_000 || full.partial {
		t.Errorf("full: %+v, %v", full, err)
	}
	short, err := parseSettings([]string{"-short", "-rounds", "2", "-executions", "200000", "-only", "start"}, io.Discard)
	if err != nil || short.rounds != 2 || short.executions != 200_000 || short.duration != 2*time.Second || !short.partial || short.only.MatchString("receive") {
		t.Errorf("short: %+v, %v", short, err)
	}
	for _, args := range [][]string{{"-duration", "1500ms"}, {"-rounds", "-1"}, {"-executions", "99999"}, {"-only", "("}, {"extra"}} {
		if s, err := parseSettings(args, io.Discard); err == nil {
			t.Errorf("%v accepted as %+v", args, s)
		}
	}
	if _, err := parseSettings([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
