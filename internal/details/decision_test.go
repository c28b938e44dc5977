package details_test

import (
	"slices"
	"strings"
	"testing"

	"callbackd/internal/details"
)

// decisionRule is the rule of decisions, case by case. The first column is what Jumio
// says overall, the second what its capabilities say, in any order; each as TYPE LABEL.
// The third is the decision, the fourth its reason.
const decisionRule = `
Nothing has been decided
  | - | - | - | -
  | - | usability - | - | -

Jumio's overall decision counts
  | PASSED OK       | usability PASSED OK                            | jumio PASSED | -
  | REJECTED SCORE  | usability PASSED OK                            | jumio REJECTED | -
  | PASSED OK       | imageChecks WARNING WATERMARK                  | jumio PASSED | imageChecks WARNING WATERMARK
  | WARNING         | -                                              | jumio WARNING | -
  | IN_REVIEW       | usability PASSED OK                            | jumio IN_REVIEW | -
  | - SCORE         | usability PASSED OK                            | capabilities PASSED | -

Without one, the worst of the capabilities' counts
  | - | usability PASSED OK; liveness PASSED OK                       | capabilities PASSED | -
  | - | usability PASSED OK; liveness NOT_EXECUTED TECHNICAL_ERROR    | capabilities NOT_EXECUTED | liveness NOT_EXECUTED TECHNICAL_ERROR
  | - | liveness NOT_EXECUTED TECHNICAL_ERROR; usability ESCALATED X  | capabilities ESCALATED | usability ESCALATED X
  | - | usability ESCALATED X; liveness WARNING AGE_DIFFERENCE        | capabilities WARNING | liveness WARNING AGE_DIFFERENCE
  | - | usability WARNING BAD_QUALITY; similarity REJECTED NO_MATCH   | capabilities REJECTED | similarity REJECTED NO_MATCH
  | - | similarity PASSED MATCH; usability PASSED OK                  | capabilities PASSED | -

A type is matched exactly, and one without a label has none
  | - | liveness passed OK                                            | capabilities passed | liveness passed OK
  | - | liveness REJECTED                                             | capabilities REJECTED | liveness REJECTED

A capability whose type cannot be read has no say
  | - | usability - BAD_QUALITY; liveness PASSED OK                   | capabilities PASSED | -

The worst type is the reason, wherever it stands
  | - | usability NOT_EXECUTED NOT_UPLOADED; dataChecks REJECTED MRZ_CHECKSUM | capabilities REJECTED | dataChecks REJECTED MRZ_CHECKSUM
  | - | watchlistScreening REJECTED ALERT; usability WARNING BAD_QUALITY      | capabilities REJECTED | watchlistScreening REJECTED ALERT

A consequence never hides its cause
  | - | extraction NOT_EXECUTED PRECONDITION_NOT_FULFILLED; dataChecks NOT_EXECUTED PRECONDITION_NOT_FULFILLED; imageChecks REJECTED DIGITAL_COPY | capabilities REJECTED | imageChecks REJECTED DIGITAL_COPY
  | - | authentication NOT_EXECUTED PRECONDITION_NOT_FULFILLED; dataChecks NOT_EXECUTED PRECONDITION_NOT_FULFILLED; usability NOT_EXECUTED NOT_UPLOADED | capabilities NOT_EXECUTED | usability NOT_EXECUTED NOT_UPLOADED
  | - | dataChecks NOT_EXECUTED PRECONDITION_NOT_FULFILLED; extraction NOT_EXECUTED TECHNICAL_ERROR | capabilities NOT_EXECUTED | extraction NOT_EXECUTED TECHNICAL_ERROR

Of equally bad ones the first counts: usability, imageChecks, extraction, dataChecks, liveness, similarity, authentication, others by name
  | - | authentication REJECTED G; similarity REJECTED F; liveness REJECTED E; dataChecks REJECTED D; extraction REJECTED C; imageChecks REJECTED B; usability REJECTED A | capabilities REJECTED | usability REJECTED A
  | - | authentication REJECTED G; similarity REJECTED F; liveness REJECTED E; dataChecks REJECTED D; extraction REJECTED C; imageChecks REJECTED B | capabilities REJECTED | imageChecks REJECTED B
  | - | authentication REJECTED G; similarity REJECTED F; liveness REJECTED E; dataChecks REJECTED D; extraction REJECTED C | capabilities REJECTED | extraction REJECTED C
  | - | authentication REJECTED G; similarity REJECTED F; liveness REJECTED E; dataChecks REJECTED D | capabilities REJECTED | dataChecks REJECTED D
  | - | authentication REJECTED G; similarity REJECTED F; liveness REJECTED E | capabilities REJECTED | liveness REJECTED E
  | - | authentication REJECTED G; similarity REJECTED F                      | capabilities REJECTED | similarity REJECTED F
  | - | addressValidation REJECTED H; authentication REJECTED G               | capabilities REJECTED | authentication REJECTED G
  | - | watchlistScreening REJECTED I; addressValidation REJECTED H           | capabilities REJECTED | addressValidation REJECTED H

Of one capability's results, the first in Jumio's order counts
  | - | usability PASSED OK; usability REJECTED FIRST; usability REJECTED SECOND | capabilities REJECTED | usability REJECTED FIRST
`

func TestDecisionRule(t *testing.T) {
	heading, cases := "", 0
	for line := range strings.Lines(decisionRule) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 {
			if cells[0] != "" {
				heading = cells[0]
			}
			continue
		}
		cases++
		t.Run(heading, func(t *testing.T) {
			d := &details.Details{}
			d.DecisionType, d.DecisionLabel = typeAndLabel(cells[1])
			positions := map[string]int32{}
			for said := range strings.SplitSeq(cells[2], ";") {
				name, decision, found := strings.Cut(strings.TrimSpace(said), " ")
				if !found {
					continue
				}
				positions[name]++
				c := details.Capability{Capability: name, Position: positions[name]}
				c.DecisionType, c.DecisionLabel = typeAndLabel(decision)
				d.Capabilities = append(d.Capabilities, c)
			}
			want := details.Decision{}
			var decision, reason string
			want.Source, decision, _ = strings.Cut(orEmpty(cells[3]), " ")
			want.Type = orEmpty(decision)
			want.ReasonCapability, reason, _ = strings.Cut(orEmpty(cells[4]), " ")
			want.ReasonType, want.ReasonLabel = typeAndLabel(reason)
			for range 2 {
				if got := details.Decide(d); got != want {
					t.Errorf("%s: got %+v, want %+v", line, got, want)
				}
				slices.Reverse(d.Capabilities) // their order does not matter
			}
		})
	}
	if cases != 31 {
		t.Errorf("%d cases were read", cases)
	}
}

// typeAndLabel reads "TYPE LABEL"; a dash stands for none.
func typeAndLabel(cell string) (decisionType, label string) {
	decisionType, label, _ = strings.Cut(strings.TrimSpace(cell), " ")
	return orEmpty(decisionType), label
}

func orEmpty(cell string) string {
	if cell = strings.TrimSpace(cell); cell == "-" {
		return ""
	}
	return cell
}
