package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Variable describes one environment variable.
type Variable struct {
	// Name is without the suffix _FILE, which every variable accepts.
	Name string
	// Default is the default as an operator would set it, or "".
	Default string
	// Required is "always", "with workers" or "".
	Required string
	// Secret says that the value must never be shown.
	Secret bool
	// Meaning is one line for people.
	Meaning string

	field string // its name in Config
	want  string // what a valid value looks like
}

// Variables returns all variables in their documented order, without those of single
// data centers, whose number is unlimited.
func Variables() []Variable {
	var all []Variable
	for f := range reflect.TypeFor[Config]().Fields() {
		name := f.Tag.Get("env")
		if name == "" || name == "-" {
			continue
		}
		all = append(all, Variable{
			Name:     name,
			Default:  f.Tag.Get("envDefault"),
			Required: f.Tag.Get("need"),
			Secret:   f.Tag.Get("secret") == "yes",
			Meaning:  f.Tag.Get("help"),
			field:    f.Name,
			want:     f.Tag.Get("want"),
		})
	}
	return all
}

// variable finds a variable by name. A data center's is like the general one.
func variable(name string) (Variable, bool) {
	for _, v := range Variables() {
		if v.Name == name || dataCenterVariable(name) == v.Name {
			v.Name = name
			return v, true
		}
	}
	return Variable{}, false
}

// Usage describes all variables in lines for a terminal.
func Usage() string {
	var b strings.Builder
	b.WriteString("Environment (or NAME_FILE, the name of a file that holds the value; empty counts as unset):\n")
	for _, v := range Variables() {
		fmt.Fprintf(&b, "  %s%s\n      %s\n", v.Name, v.note(), v.Meaning)
	}
	return b.String()
}

// note says what applies when the variable is unset.
func (v Variable) note() string {
	switch {
	case v.Required == "always":
		return " (required)"
	case v.Required != "":
		return " (required " + v.Required + ")"
	case v.Default != "":
		return " (default " + v.Default + ")"
	default:
		return ""
	}
}

// Effective returns NAME=value of every variable, in the order of [Variables],
// each data center's after JUMIO_CLIENT_SECRET. A secret that is set shows as
// [redacted], but DATABASE_URL shows where it leads. An unset optional variable has
// no value.
func (c *Config) Effective() []string {
	var lines []string
	for _, v := range Variables() {
		lines = append(lines, c.assignment(v))
		if v.Name != clientSecret {
			continue
		}
		for _, dc := range slices.Sorted(maps.Keys(c.DataCenters)) {
			for _, base := range []string{clientID, clientSecret} {
				v, _ := variable(base + "_" + environmentForm(dc))
				lines = append(lines, c.assignment(v))
			}
		}
	}
	return lines
}

func (c *Config) assignment(v Variable) string {
	value := c.values[v.Name]
	switch {
	case v.field == "DatabaseURL":
		value = showDatabase(value)
	case v.Secret && value != "":
		value = redacted
	case strings.ContainsFunc(value, unicode.IsControl):
		value = strconv.Quote(value) // keeps it on one line
	}
	return v.Name + "=" + value
}
