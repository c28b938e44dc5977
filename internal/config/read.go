package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// problems collects one line for each variable that is wrong.
type problems struct {
	values map[string]string
	lines  map[string]string
}

// say records a problem; the first one of a variable stays.
func (p *problems) say(name, text string) {
	if _, there := p.lines[name]; !there {
		p.lines[name] = name + " " + text
	}
}

// wrong reports that a variable's value, or one item of it, is invalid.
func (p *problems) wrong(name string, item ...string) {
	v, _ := variable(name)
	value := p.values[name]
	switch {
	case v.Secret, strings.Contains(value, "@"): // user:password@host
		p.say(name, "is invalid (its value is not shown), want "+v.want)
	case len(item) > 0:
		p.say(name, "has "+quote(item[0])+" in it, want "+v.want)
	default:
		p.say(name, "is "+quote(value)+", want "+v.want)
	}
}

// quote keeps a value on one line, and short.
func quote(value string) string {
	const limit = 100
	if len(value) > limit {
		value = value[:limit] + "..."
	}
	return fmt.Sprintf("%q", value)
}

// missing is the problem of a required variable that is unset.
func missing(name string) string {
	v, _ := variable(name)
	return "is missing, want " + v.want
}

// only returns the problem of one variable, nil if it has none.
func (p *problems) only(name string) error {
	if line, bad := p.lines[name]; bad {
		return &Error{Lines: []string{line}}
	}
	return nil
}

// among returns the problems of the variables that needed names.
func (p *problems) among(needed func(name string) bool) error {
	maps.DeleteFunc(p.lines, func(name, _ string) bool { return !needed(name) })
	return p.err()
}

// err returns the lines in the order of Variables, other names after them.
func (p *problems) err() error {
	if len(p.lines) == 0 {
		return nil
	}
	var lines []string
	rest := maps.Clone(p.lines)
	for _, v := range Variables() {
		if line, bad := rest[v.Name]; bad {
			lines = append(lines, line)
			delete(rest, v.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		lines = append(lines, rest[name])
	}
	return &Error{Lines: lines}
}

// read parses environ and checks each variable on its own. A value that cannot be
// parsed leaves the default in place, so that later checks do not fail as well.
func read(environ []string) (*Config, *problems) {
	p := &problems{lines: map[string]string{}}
	p.values = resolve(environ, p)

	c := &Config{DataCenters: map[string]Credentials{}, values: map[string]string{}}
	p.parse(c, map[string]string{})
	p.parse(c, p.values)
	for _, v := range Variables() {
		c.values[v.Name] = cmp.Or(p.values[v.Name], v.Default)
	}
	c.readDataCenters(p)
	c.check(p)
	return c, p
}

// parse has caarlos0/env fill c. It translates the errors, which would show values
// and name Go fields.
func (p *problems) parse(c *Config, values map[string]string) {
	err := env.ParseWithOptions(c, env.Options{Environment: values, FuncMap: map[reflect.Type]env.ParserFunc{
		reflect.TypeFor[[]netip.Prefix]():  list(parsePrefix),
		reflect.TypeFor[[]string]():        list(parseName),
		reflect.TypeFor[[]time.Duration](): list(time.ParseDuration),
		reflect.TypeFor[[]RetentionRule](): list(parseRetention),
		reflect.TypeFor[url.URL]():         parseEndpoint,
		reflect.TypeFor[ImageStore]():      parseImageStore,
	}})
	all, _ := errors.AsType[env.AggregateError](err)
	for _, err := range all.Errors {
		failure, ok := errors.AsType[env.ParseError](err)
		if !ok {
			panic(err) // a tag of Config is wrong, whatever the input
		}
		i := slices.IndexFunc(Variables(), func(v Variable) bool { return v.field == failure.Name })
		name := Variables()[i].Name
		if bad, ok := errors.AsType[*itemError](failure.Err); ok {
			p.wrong(name, bad.item)
		} else {
			p.wrong(name)
		}
	}
}

// itemError says which item of a list cannot be parsed.
type itemError struct{ item string }

func (e *itemError) Error() string { return "wrong item" }

// list makes a parser of items separated by commas and blanks; "none" is an empty list.
func list[T any](parse func(string) (T, error)) env.ParserFunc {
	return func(value string) (any, error) {
		items := []T{}
		if strings.EqualFold(value, "none") {
			return items, nil
		}
		for item := range strings.SplitSeq(value, ",") {
			item = strings.TrimSpace(item)
			parsed, err := parse(item)
			if err != nil {
				return nil, &itemError{item}
			}
			items = append(items, parsed)
		}
		return items, nil
	}
}

func parseName(item string) (string, error) {
	if item == "" {
		return "", errors.New("empty name")
	}
	return strings.ToLower(item), nil
}

// parsePrefix reads a CIDR or an address. IPv4-mapped IPv6 becomes IPv4, the form in
// which client addresses are compared.
func parsePrefix(item string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(item); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, errors.New("address with a zone")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(item)
	if err != nil {
		return netip.Prefix{}, err
	}
	if prefix.Addr().Is4In6() {
		const mappedBits = 96
		if prefix.Bits() < mappedBits {
			return netip.Prefix{}, errors.New("wider than the IPv4-mapped addresses")
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits)
	}
	return prefix.Masked(), nil
}

// parseEndpoint reads scheme, host and port; paths are appended later.
func parseEndpoint(value string) (any, error) {
	u, err := url.Parse(value)
	if err != nil {
		return nil, err
	}
	bare := url.URL{Scheme: u.Scheme, Host: u.Host}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.TrimSuffix(value, "/") != bare.String() || !validPort(u.Port(), true) {
		return nil, errors.New("not scheme and host alone")
	}
	return bare, nil
}
