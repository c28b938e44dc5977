package config

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RetentionRule says for how long data of a class is kept: for months of the calendar, then
// days, then a duration.
type RetentionRule struct {
	// Class is one of RetentionClasses.
	Class string
	// DefinitionKey is the workflow definition that the rule is for; empty for all that
	// have no rule of their own.
	DefinitionKey string
	Months, Days  int
	Duration      time.Duration
}

// RetentionClasses returns the classes of data that can be kept for a limited time.
func RetentionClasses() []string {
	return []string{"images", "biometrics", "results", "callbacks", "rejected", "events"}
}

// retentionPeriod is years, months and days, each of them optional, and a Go duration.
var retentionPeriod = regexp.MustCompile(`^(?:(\d{1,3})y)?(?:(\d{1,4})mo)?(?:(\d{1,6})d)?(.*)$`)

// parseRetention reads CLASS[@DEFINITION_KEY]=DURATION.
func parseRetention(item string) (RetentionRule, error) {
	which, period, _ := strings.Cut(item, "=")
	class, key, specific := strings.Cut(which, "@")
	r := RetentionRule{Class: class, DefinitionKey: key}
	if !slices.Contains(RetentionClasses(), class) || specific && key == "" {
		return r, errors.New("not a class, or one with a definition")
	}
	parts := retentionPeriod.FindStringSubmatch(period)
	if parts == nil {
		return r, errors.New("not a duration")
	}
	const monthsOfYear = 12
	r.Months, r.Days = monthsOfYear*number(parts[1])+number(parts[2]), number(parts[3])
	if rest := parts[4]; rest != "" {
		var err error
		if r.Duration, err = time.ParseDuration(rest); err != nil || r.Duration < 0 {
			return r, errors.New("not a duration")
		}
	}
	if r.Months == 0 && r.Days == 0 && r.Duration < time.Microsecond { // Postgres counts in them
		return r, errors.New("not above zero")
	}
	return r, nil
}

// number returns what a few digits say; none are 0.
func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

// checkRetention wants at most one rule for each class and definition.
func (c *Config) checkRetention(p *problems) {
	const name = "CALLBACKD_RETENTION"
	for i, rule := range c.Retention {
		if slices.ContainsFunc(c.Retention[:i], func(o RetentionRule) bool { return o.Class == rule.Class && o.DefinitionKey == rule.DefinitionKey }) {
			which := rule.Class
			if rule.DefinitionKey != "" {
				which += "@" + rule.DefinitionKey
			}
			v, _ := variable(name)
			p.say(name, "has "+quote(which)+" in it twice, want "+v.want)
		}
	}
}

// Retention returns CALLBACKD_RETENTION, as Lookup does.
func Retention(environ []string) ([]RetentionRule, error) {
	c, p := read(environ)
	return c.Retention, p.only("CALLBACKD_RETENTION")
}
