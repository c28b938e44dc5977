package main

import (
	"strings"
	"testing"

	"callbackd/bench/questions"
)

func TestPercentile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for _, c := range []struct {
		values  []float64
		percent int
		want    float64
	}{
		{hundred, 99, 99},
		{hundred, 50, 50},
		{[]float64{3, 1, 2}, 99, 3},
		{[]float64{7}, 50, 7},
	} {
		if got := percentile(c.values, c.percent); got != c.want {
			t.Errorf("percentile %d of %d values = %g, want %g", c.percent, len(c.values), got, c.want)
		}
	}
}

func testQuestions() *results {
	ask := func(name string, kind questions.Kind, executions int, p99 float64) asked {
		return asked{Question: name, Kind: kind, Executions: executions, Warm: answerTimes{P50: 0.1, P99: p99}, Plan: "Index Scan a", GenericPlan: "Index Scan b"}
	}
	return &results{Questions: []asked{
		ask("fast", questions.Key, fewExecutions, 1), ask("slow", questions.Key, fewExecutions, 4), ask("page", questions.Page, fewExecutions, 5),
		ask("fast", questions.Key, 1_000_000, 2), ask("slow", questions.Key, 1_000_000, 6), ask("page", questions.Page, 1_000_000, 15),
	}, Filled: []filled{{1_000_000, 5e9, 60}}}
}

func TestQuestionFigures(t *testing.T) {
	r := testQuestions()
	r.questionFigures(1_000_000)
	for i, want := range []struct {
		detail  string
		reached bool
	}{{"slow", false}, {"page", true}, {"page", false}} {
		if f := r.Figures[i]; f.Detail != want.detail || *f.Reached != want.reached {
			t.Errorf("figure %d: %+v, reached %v", i, f, *f.Reached)
		}
	}
	if got := r.Figures[2].Ratio; got != 3 {
		t.Errorf("the page slows down by %g, want 3", got)
	}
}

func TestMarkdown(t *testing.T) {
	got := string(testQuestions().markdown())
	for _, want := range []string{
		"- 1000000 workflow executions: 5.0 GB, made in 60 s",
		"with the system's cache emptied",
		"| fast | key | 1000000 | 0.00 | 0.00 | 0.10 | 2.00 | 2.00 | yes |\n",
		"| slow | key | 1000000 | 0.00 | 0.00 | 0.10 | 6.00 | 1.50 | NO |\n",
		"| page | page | 1000000 | 0.00 | 0.00 | 0.10 | 15.00 | 3.00 | NO |\n",
		"| slow | 1000000 | Index Scan a |\n| slow, for any keys | 1000000 | Index Scan b |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
}
