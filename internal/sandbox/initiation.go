package sandbox

import (
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

	"golang.org/x/text/language"

	"callbackd/internal/sandbox/journey"
)

// initiation is the body of the guide's "Account Creation" and "Account Update".
// Parameters that the guide does not know are ignored.
type initiation struct {
	CustomerInternalReference string `json:"customerInternalReference"`
	WorkflowDefinition        struct {
		Key         json.RawMessage      `json:"key"`
		Credentials []credentialSettings `json:"credentials"`
	} `json:"workflowDefinition"`
	UserReference     string `json:"userReference"`
	ReportingCriteria string `json:"reportingCriteria"`
	CallbackURL       string `json:"callbackUrl"`
	TokenLifetime     string `json:"tokenLifetime"`
	Web               struct {
		SuccessURL string `json:"successUrl"`
		ErrorURL   string `json:"errorUrl"`
		Locale     string `json:"locale"`
	} `json:"web"`
}

// credentialSettings are the guide's "workflowDefinition.credentials".
type credentialSettings struct {
	Category string  `json:"category"`
	Country  *choice `json:"country"`
	Type     *choice `json:"type"`
}

// choice is what the user may choose from.
type choice struct {
	PredefinedType string   `json:"predefinedType,omitempty"`
	Values         []string `json:"values"`
}

func (c *choice) values() []string {
	if c == nil {
		return nil
	}
	return c.Values
}

// categories are the guide's of credentials.
var categories = []string{"ID", "FACEMAP", "DOCUMENT", "SELFIE"}

// locales are the guide's "Languages".
var locales = strings.Fields("ar bg cs da de el en en-GB es es-MX et fi fr he hr hu hy id it ja ka km ko lt ms nl no pl pt pt-BR ro ru sk sv th tr vi zh-CN zh-HK")

const (
	defaultLifetime  = 30 * time.Minute
	shortestLifetime = 5 * time.Minute
	longestLifetime  = 60 * 24 * time.Hour
	// forbiddenInReference must not be in a customerInternalReference.
	forbiddenInReference = "<>\"/;`%"
)

// parseInitiation reads and checks a request's body. Its error names every wrong
// parameter, and no value that may be personal.
func parseInitiation(body []byte) (initiation, error) {
	var i initiation
	if err := json.Unmarshal(body, &i); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			return i, fmt.Errorf("%s must not be a JSON %s", wrong.Field, wrong.Value)
		}
		return i, errors.New("the body is not the guide's JSON object")
	}
	return i, errors.Join(i.checkTexts(), i.checkDefinition())
}

func (i initiation) checkTexts() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(i.CustomerInternalReference != "", "customerInternalReference is missing")
	check(!strings.ContainsAny(i.CustomerInternalReference, forbiddenInReference), "customerInternalReference must hold none of %s", forbiddenInReference)
	for _, text := range []struct {
		name, value string
		most        int
	}{
		{"customerInternalReference", i.CustomerInternalReference, 100},
		{"userReference", i.UserReference, 100},
		{"reportingCriteria", i.ReportingCriteria, 255},
		{"callbackUrl", i.CallbackURL, 255},
		{"web.successUrl", i.Web.SuccessURL, 255},
		{"web.errorUrl", i.Web.ErrorURL, 255},
	} {
		check(utf8.RuneCountInString(text.value) <= text.most, "%s is longer than %d characters", text.name, text.most)
		if strings.HasSuffix(text.name, "Url") {
			check(text.value == "" || isWebAddress(text.value), "%s must be an http or https address without a fragment", text.name)
		}
	}
	check(i.Web.Locale == "" || slices.Contains(locales, i.Web.Locale), "web.locale is none of the supported locales")
	_, err := i.lifetime()
	return errors.Join(append(errs, err)...)
}

func isWebAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && u.Fragment == ""
}

var lifetimePattern = regexp.MustCompile(`^([0-9]{1,9})([smhd])$`)

// lifetime is that of the workflow execution's tokens.
func (i initiation) lifetime() (time.Duration, error) {
	if i.TokenLifetime == "" {
		return defaultLifetime, nil
	}
	units := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	parts := lifetimePattern.FindStringSubmatch(i.TokenLifetime)
	if parts == nil {
		return 0, errors.New("tokenLifetime must be a number with s, m, h or d, such as 30m")
	}
	n, _ := strconv.Atoi(parts[1]) // digits, few enough
	lifetime := time.Duration(min(n, int(longestLifetime/time.Second)+1)) * units[parts[2]]
	if lifetime < shortestLifetime || lifetime > longestLifetime {
		return 0, errors.New("tokenLifetime must be between 5m and 60d")
	}
	return lifetime, nil
}

// definitionKey accepts a number, as in the guide's examples, and a text.
func (i initiation) definitionKey() string {
	return strings.Trim(string(i.WorkflowDefinition.Key), `"`)
}

func (i initiation) checkDefinition() error {
	var errs []error
	if key := i.definitionKey(); key == "" || key == "null" {
		errs = append(errs, errors.New("workflowDefinition.key is missing"))
	} else if !slices.Contains(journey.Definitions(), key) {
		errs = append(errs, fmt.Errorf("workflowDefinition.key is none of %s", join(journey.Definitions())))
	}
	seen := map[string]bool{}
	for n, c := range i.WorkflowDefinition.Credentials {
		name := fmt.Sprintf("workflowDefinition.credentials[%d]", n)
		if seen[c.Category] {
			errs = append(errs, fmt.Errorf("%s has a category that is there twice", name))
		}
		seen[c.Category] = true
		if !slices.Contains(categories, c.Category) {
			errs = append(errs, fmt.Errorf("%s.category is none of %s", name, join(categories)))
			continue
		}
		errs = append(errs, c.Country.check(name+".country", isCountry), c.Type.check(name+".type", typesOf(c.Category)))
	}
	return errors.Join(errs...)
}

func (c *choice) check(name string, allowed func(string) bool) error {
	switch {
	case c == nil:
		return nil
	case c.PredefinedType != "" && c.PredefinedType != "DEFINED" && c.PredefinedType != "RECOMMENDED":
		return fmt.Errorf("%s.predefinedType is neither DEFINED nor RECOMMENDED", name)
	case len(c.Values) == 0:
		return fmt.Errorf("%s.values is missing", name)
	}
	for _, value := range c.Values {
		if !allowed(value) {
			return fmt.Errorf("%s.values holds one that the guide does not allow", name)
		}
	}
	return nil
}

// typesOf is which types a category's credential may have. The guide names none for
// SELFIE and DOCUMENT; those of DOCUMENT are an open list.
func typesOf(category string) func(string) bool {
	return func(value string) bool {
		switch category {
		case "ID":
			return slices.Contains(journey.IDTypes, value)
		case "FACEMAP":
			return slices.Contains(journey.FacemapTypes, value)
		}
		return category == "DOCUMENT" && value != ""
	}
}

// isCountry knows ISO 3166-1 alpha-3, and XKX as in the guide.
func isCountry(code string) bool {
	region, err := language.ParseRegion(code)
	return code == "XKX" || len(code) == 3 && err == nil && region.IsCountry() && region.ISO3() == code
}

// order is what the request asks of the workflow execution.
func (i initiation) order(accountID string) journey.Order {
	o := journey.Order{
		AccountID: accountID, DefinitionKey: i.definitionKey(),
		UserReference: i.UserReference, CustomerInternalReference: i.CustomerInternalReference,
	}
	for _, c := range i.WorkflowDefinition.Credentials {
		o.Credentials = append(o.Credentials, journey.Wanted{Category: c.Category, Countries: c.Country.values(), Types: c.Type.values()})
	}
	return o
}

// settings are those of a category's credential.
func (i initiation) settings(category string) credentialSettings {
	for _, c := range i.WorkflowDefinition.Credentials {
		if c.Category == category {
			return c
		}
	}
	return credentialSettings{Category: category}
}

// wishes reads what a client asks of the sandbox in words of reportingCriteria: the
// journey's kind and faults, such as "kind=passed-passport fault=callback:lost".
func (i initiation) wishes() (kind string, faults []Fault, err error) {
	for word := range strings.FieldsSeq(i.ReportingCriteria) {
		switch name, value, _ := strings.Cut(word, "="); name {
		case "kind":
			kind = value
		case "fault":
			f, err := ParseFault(value)
			if err != nil {
				return "", nil, err
			}
			faults = append(faults, f)
		}
	}
	return kind, faults, nil
}
