package details

import (
	"cmp"
	"slices"
)

// The sources of a decision.
const (
	SourceJumio        = "jumio"        // Jumio's overall decision
	SourceCapabilities = "capabilities" // the worst of the capabilities' decisions
)

// Decision is what has been decided about the end user, and why.
type Decision struct {
	// Type is an open list: PASSED, REJECTED, WARNING, NOT_EXECUTED. It is empty if
	// neither Jumio nor a capability has decided.
	Type string `db:"decision_type"`
	// Source is SourceJumio or SourceCapabilities; empty if Type is.
	Source string `db:"decision_source"`
	// The reason is the capability that was not passed; empty if all were. An overall
	// decision may have none of its own: a PASSED may have a reason, a REJECTED none.
	ReasonCapability string `db:"reason_capability"`
	ReasonType       string `db:"reason_type"`
	ReasonLabel      string `db:"reason_label"`
}

const passed = "PASSED"

// byDependency are the guide's capabilities in the order of their dependencies, so that
// a consequence (PRECONDITION_NOT_FULFILLED) comes after its cause.
var byDependency = []string{"usability", "imageChecks", "extraction", "dataChecks", "liveness", "similarity", "authentication"}

// Decide applies the one rule of decisions. Jumio's overall decision counts if its type
// can be read, else the worst of the capabilities': REJECTED, WARNING, types that the
// guide does not know, NOT_EXECUTED, PASSED. The reason is the worst capability that was
// not passed, and of several equally bad ones the first by dependency, then by name, then
// by position. A capability without a type has no say. Types are matched exactly.
func Decide(d *Details) Decision {
	var decision Decision
	if worst := worstCapability(d.Capabilities); worst != nil {
		decision = Decision{Type: worst.DecisionType, Source: SourceCapabilities}
		if worst.DecisionType != passed {
			decision.ReasonCapability, decision.ReasonType, decision.ReasonLabel = worst.Capability, worst.DecisionType, worst.DecisionLabel
		}
	}
	if d.DecisionType != "" {
		decision.Type, decision.Source = d.DecisionType, SourceJumio
	}
	return decision
}

// worstCapability returns the capability that comes first by the rule, nil if none has a
// type.
func worstCapability(capabilities []Capability) *Capability {
	var worst *Capability
	for i := range capabilities {
		if c := &capabilities[i]; c.DecisionType != "" && (worst == nil || compareByRule(c, worst) < 0) {
			worst = c
		}
	}
	return worst
}

func compareByRule(a, b *Capability) int {
	return cmp.Or(
		cmp.Compare(badness(b.DecisionType), badness(a.DecisionType)),
		cmp.Compare(dependency(a.Capability), dependency(b.Capability)),
		cmp.Compare(a.Capability, b.Capability),
		cmp.Compare(a.Position, b.Position),
	)
}

func badness(decisionType string) int {
	switch decisionType {
	case "REJECTED":
		return 4
	case "WARNING":
		return 3
	case "NOT_EXECUTED":
		return 1
	case passed:
		return 0
	}
	return 2
}

func dependency(capability string) int {
	if i := slices.Index(byDependency, capability); i >= 0 {
		return i
	}
	return len(byDependency)
}
