package jumio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Initiation is the body of the creation or update of an account (guide, "Request Body"),
// by the guide's names. It may have parameters that the guide does not know.
type Initiation map[string]any

// Names of Initiation's parameters that callers fill in.
const (
	ParamCallbackURL   = "callbackUrl"
	ParamUserReference = "userReference"
)

// The guide's limits, in characters.
const (
	referenceLimit = 100
	urlLimit       = 255
)

// forbiddenInReference are the characters that Jumio refuses in a
// customerInternalReference.
const forbiddenInReference = "<>\"/;%`"

// The guide's possible values ("Request workflowDefinition.credentials", "Languages").
var (
	categories      = []string{"ID", facemap, "DOCUMENT", "SELFIE"}
	predefinedTypes = []string{"DEFINED", "RECOMMENDED"}
	// credentialTypes has the categories whose types the guide lists.
	credentialTypes = map[string][]string{
		"ID":    {"ID_CARD", "DRIVING_LICENSE", "PASSPORT", "VISA"},
		facemap: {"IPROOV_STANDARD", "IPROOV_PREMIUM", "JUMIO_STANDARD"},
	}
	locales = strings.Fields(`ar bg cs da de el en en-GB es es-MX et fi fr he hr hu hy id it ja ka km ko lt ms nl no pl pt
		pt-BR ro ru sk sv th tr vi zh-CN zh-HK`)
	countryPattern = regexp.MustCompile(`^[A-Z]{3}$`) // ISO 3166-1 alpha-3
)

// ParseInitiation reads a request body. The error, for anything but one JSON object in
// UTF-8, holds nothing of it.
func ParseInitiation(body []byte) (Initiation, error) {
	object, ok := parseObject(body)
	if !ok || !utf8.Valid(body) {
		return nil, errors.New("not a JSON object in UTF-8")
	}
	return object.value.(map[string]any), nil
}

// Encode writes the request body.
func (i Initiation) Encode() ([]byte, error) {
	var body bytes.Buffer
	out := json.NewEncoder(&body)
	out.SetEscapeHTML(false)
	err := out.Encode(map[string]any(i))
	return bytes.TrimSuffix(body.Bytes(), []byte("\n")), err
}

// UserReference gives the userReference, "" if there is none.
func (i Initiation) UserReference() string { return node{i[ParamUserReference]}.text() }

// DefinitionKey gives the workflow definition's key, as in a callback.
func (i Initiation) DefinitionKey() string {
	key, _ := node{map[string]any(i)}.at("workflowDefinition", "key").value.(json.Number)
	return key.String()
}

// TokenLifetime gives how long the person may take to begin: the guide's 30 minutes
// unless the request says otherwise. Jumio's portal may set another default.
func (i Initiation) TokenLifetime() time.Duration {
	if lifetime, err := ParseTokenLifetime(node{i["tokenLifetime"]}.text()); err == nil {
		return lifetime
	}
	return 30 * time.Minute
}

// Problems compares the request with the guide: mandatory parameters, JSON types, limits
// and possible values. Each problem is one line that begins with the parameter's name. None
// repeats a URL or a reference.
func (i Initiation) Problems() []string {
	c := &checker{}
	root := node{map[string]any(i)}
	c.customerReference(root.at("customerInternalReference"))
	if c.optional(root.at("workflowDefinition"), isObject, "workflowDefinition", "an object") {
		c.definition(root.at("workflowDefinition"))
	} else if root.at("workflowDefinition").value == nil {
		c.say("workflowDefinition.key", "is missing")
	}
	if reference, ok := c.text(root.at(ParamUserReference), ParamUserReference, referenceLimit); ok && reference == "" {
		c.say(ParamUserReference, "is empty")
	}
	c.text(root.at("reportingCriteria"), "reportingCriteria", urlLimit)
	c.url(root.at(ParamCallbackURL), ParamCallbackURL, "http", "https")
	if lifetime, ok := c.text(root.at("tokenLifetime"), "tokenLifetime", urlLimit); ok {
		if _, err := ParseTokenLifetime(lifetime); err != nil {
			c.say("tokenLifetime", "%v", err)
		}
	}
	if web := root.at("web"); c.optional(web, isObject, "web", "an object") {
		c.url(web.at("successUrl"), "web.successUrl")
		c.url(web.at("errorUrl"), "web.errorUrl")
		if locale, ok := c.text(web.at("locale"), "web.locale", urlLimit); ok {
			c.oneOf(locale, "web.locale", locales)
		}
	}
	return c.problems
}

// tokenLifetimePattern is the guide's period: seconds, minutes, hours or days.
var tokenLifetimePattern = regexp.MustCompile(`^([0-9]{1,9})([smhd])$`)

// ParseTokenLifetime reads a tokenLifetime (guide, "Request Body") such as 600s, 30m, 1h or
// 1d: from 5m to 60d.
func ParseTokenLifetime(text string) (time.Duration, error) {
	m := tokenLifetimePattern.FindStringSubmatch(text)
	if m == nil {
		return 0, errors.New("is not a number with one of the units s, m, h, d, such as 30m")
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // nine digits fit
	seconds := n * map[string]int64{"s": 1, "m": 60, "h": 3600, "d": 86400}[m[2]]
	if seconds < 5*60 || seconds > 60*86400 {
		return 0, errors.New("is not from 5m to 60d")
	}
	return time.Duration(seconds) * time.Second, nil
}

// checker gathers problems.
type checker struct{ problems []string }

func (c *checker) say(name, format string, args ...any) {
	c.problems = append(c.problems, name+" "+fmt.Sprintf(format, args...))
}

func isObject(value any) bool { _, ok := value.(map[string]any); return ok }
func isArray(value any) bool  { _, ok := value.([]any); return ok }

// optional tells whether a parameter is there and of its JSON type. null counts as absent.
func (c *checker) optional(n node, is func(any) bool, name, want string) bool {
	if n.value == nil {
		return false
	}
	if !is(n.value) {
		c.say(name, "is not %s", want)
		return false
	}
	return true
}

// text gives an optional string of at most limit characters; ok is false without one.
func (c *checker) text(n node, name string, limit int) (text string, ok bool) {
	if !c.optional(n, func(value any) bool { _, ok := value.(string); return ok }, name, "a string") {
		return "", false
	}
	text = n.text()
	if count := utf8.RuneCountInString(text); count > limit {
		c.say(name, "has %d characters, at most %d are allowed", count, limit)
		return "", false
	}
	return text, true
}

func (c *checker) customerReference(n node) {
	const name = "customerInternalReference"
	reference, ok := c.text(n, name, referenceLimit)
	switch {
	case n.value == nil, ok && reference == "":
		c.say(name, "is missing")
	case strings.ContainsAny(n.text(), forbiddenInReference):
		c.say(name, "must not contain any of %s", forbiddenInReference)
	}
}

// url checks an optional absolute URL, which may be a secret. Without schemes, any will
// do: a success URL may lead into an app.
func (c *checker) url(n node, name string, schemes ...string) {
	text, ok := c.text(n, name, urlLimit)
	if !ok {
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || schemes != nil && !slices.Contains(schemes, u.Scheme) {
		c.say(name, "is not an absolute URL such as https://www.example.com/path")
	}
}

func (c *checker) oneOf(value, name string, values []string) {
	if !slices.Contains(values, value) {
		c.say(name, "is %s, not one of %s", quoted(value), strings.Join(values, ", "))
	}
}

// quoted keeps a wrong value on one line, and short.
func quoted(value string) string {
	const limit = 40
	if runes := []rune(value); len(runes) > limit {
		value = string(runes[:limit]) + "..."
	}
	return strconv.Quote(value)
}

// definition checks workflowDefinition.
func (c *checker) definition(n node) {
	key, ok := n.at("key").value.(json.Number)
	switch whole, err := strconv.ParseInt(key.String(), 10, 64); {
	case n.at("key").value == nil:
		c.say("workflowDefinition.key", "is missing")
	case !ok || err != nil || whole < 1:
		c.say("workflowDefinition.key", "is not a whole number above 0")
	}
	if !c.optional(n.at("credentials"), isArray, "workflowDefinition.credentials", "an array") {
		return
	}
	for i, credential := range n.at("credentials").list() {
		name := fmt.Sprintf("workflowDefinition.credentials[%d]", i)
		if !isObject(credential.value) {
			c.say(name, "is not an object")
			continue
		}
		c.credential(credential, name)
	}
}

func (c *checker) credential(n node, name string) {
	category, ok := c.text(n.at("category"), name+".category", urlLimit)
	if ok {
		c.oneOf(category, name+".category", categories)
	}
	for _, country := range c.values(n.at("country"), name+".country") {
		if !countryPattern.MatchString(country) {
			c.say(name+".country.values", "has %s, not an ISO 3166-1 alpha-3 code such as AUT", quoted(country))
		}
	}
	for _, credentialType := range c.values(n.at("type"), name+".type") {
		if known := credentialTypes[category]; known != nil && !slices.Contains(known, credentialType) {
			c.say(name+".type.values", "has %s, not one of %s", quoted(credentialType), strings.Join(known, ", "))
		}
	}
}

// values checks an optional object with predefinedType and values, and gives the values.
func (c *checker) values(n node, name string) []string {
	if !c.optional(n, isObject, name, "an object") {
		return nil
	}
	if predefined, ok := c.text(n.at("predefinedType"), name+".predefinedType", urlLimit); ok {
		c.oneOf(predefined, name+".predefinedType", predefinedTypes)
	}
	if !c.optional(n.at("values"), isArray, name+".values", "an array") {
		return nil
	}
	values := n.at("values").texts()
	switch count := len(n.at("values").list()); {
	case count == 0:
		c.say(name+".values", "is empty, at least one is needed")
	case count != len(values):
		c.say(name+".values", "has something else than strings")
	}
	return values
}
