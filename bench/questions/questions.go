// Package questions asks the documented questions of a database that holds many workflow
// executions. It reads them (Parse), fills the database (Population), finds keys to ask
// for (Population.Keys) and shows the plans (Explain).
//
// It knows callbackd's tables, but none of its packages.
package questions

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is how much a question reads.
type Kind string

// The kinds.
const (
	Key  Kind = "key"  // what belongs to one thing
	Page Kind = "page" // at most 100 rows in an order
)

// Question is one block of docs/questions.sql.
type Question struct {
	Name string
	// Text is the question in words.
	Text string
	Kind Kind
	// Parameters are the names of the keys that $1, $2 and so on stand for.
	Parameters []string
	SQL        string
}

// Parse reads the text of docs/questions.sql: a comment at the top, then blocks, with empty
// lines between them.
func Parse(text string) ([]Question, error) {
	_, text, _ = strings.Cut(text, "\n\n")
	var list []Question
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		q, err := parseBlock(block)
		if err != nil {
			return nil, fmt.Errorf("block %d of the questions: %w", len(list)+1, err)
		}
		list = append(list, q)
	}
	return list, nil
}

func parseBlock(block string) (q Question, err error) {
	for line := range strings.Lines(block) {
		comment, isComment := strings.CutPrefix(line, "-- ")
		if !isComment {
			q.SQL += line
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(comment), ": ")
		switch name {
		case "name":
			q.Name = value
		case "question":
			q.Text = value
		case "kind":
			q.Kind = Kind(value)
		case "parameters":
			q.Parameters = strings.Split(value, ", ")
		default:
			return q, fmt.Errorf("unknown comment %q", name)
		}
	}
	q.SQL = strings.TrimSuffix(strings.TrimSpace(q.SQL), ";")
	switch {
	case q.Name == "" || q.Text == "" || len(q.Parameters) == 0 || q.SQL == "":
		return q, errors.New("it lacks its name, question, parameters or statement")
	case q.Kind != Key && q.Kind != Page:
		return q, fmt.Errorf("unknown kind %q", q.Kind)
	}
	return q, nil
}
