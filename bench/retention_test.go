package main

import "testing"

func TestRetentionFigures(t *testing.T) {
	var r results
	r.retentionFigures(
		looks{took: []float64{400, 500, 450}, locked: []float64{8, 90, 10}, waited: []float64{20, 1001, 30}},
		looks{took: []float64{9000, 9000, 9000}, locked: []float64{0, 0, 0}, waited: []float64{20, 143, 30}})
	for i, want := range []struct {
		value, ratio float64
		reached      string
	}{{10, 10. / 450, ""}, {450, 0.05, "yes"}, {1001, 7, "NO"}} {
		f, reached := r.Figures[i], ""
		if f.Reached != nil {
			reached = yesNo(*f.Reached)
		}
		if f.Value != want.value || f.Ratio != want.ratio || reached != want.reached {
			t.Errorf("figure %d: %+v, reached %q", i, f, reached)
		}
	}
}
