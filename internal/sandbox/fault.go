package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Endpoint is where a fault happens.
type Endpoint string

// The endpoints of faults. EndpointAccount is creation and update, EndpointCallback
// the other side's.
const (
	EndpointToken    Endpoint = "token"
	EndpointAccount  Endpoint = "account"
	EndpointUpload   Endpoint = "upload"
	EndpointFinalize Endpoint = "finalize"
	EndpointStatus   Endpoint = "status"
	EndpointDetails  Endpoint = "details"
	EndpointImage    Endpoint = "image"
	EndpointDelete   Endpoint = "delete"
	EndpointHealth   Endpoint = "health"
	EndpointCallback Endpoint = "callback"
)

// FaultKind is what goes wrong.
type FaultKind string

// Faults of answers, besides HTTP statuses from "400" to "503".
const (
	FaultRevoked    FaultKind = "revoked"
	FaultSlow       FaultKind = "slow"
	FaultDrip       FaultKind = "drip"
	FaultHang       FaultKind = "hang"
	FaultReset      FaultKind = "reset"
	FaultRedirect   FaultKind = "redirect"
	FaultTruncated  FaultKind = "truncated"
	FaultHTML       FaultKind = "html"
	FaultBrokenJSON FaultKind = "broken_json"
	FaultNotFinal   FaultKind = "not_final"
	FaultEmpty      FaultKind = "empty"
	FaultWrongType  FaultKind = "wrong_type"
)

// Faults of callbacks.
const (
	FaultLost       FaultKind = "lost"
	FaultDuplicate  FaultKind = "duplicate"
	FaultLate       FaultKind = "late"
	FaultReordered  FaultKind = "reordered"
	FaultEqualTimes FaultKind = "equal_times"
	FaultNoAccount  FaultKind = "no_account"
	FaultNoHref     FaultKind = "no_href"
	FaultIDOnly     FaultKind = "id_only"
)

// Fault is one kind of misbehaviour. Its text form is
// "endpoint:kind[:times][:option=value]...", such as "image:truncated:2" or
// "details:429:1:retry-after=2s"; see ParseFault.
type Fault struct {
	Endpoint Endpoint
	Kind     FaultKind
	// Times is how many requests are hit: of each journey, or of all for token,
	// account and health;
	// 0: every one. For a duplicate callback it is the number of extra copies,
	// at least one; for lost ones how many are lost, from the last one on.
	Times int
	// For ends the fault this long after the first request it hit; 0: never.
	For time.Duration
	// Part limits an image fault to one classifier.
	Part string
	// RetryAfter goes with a 429 or 503, in whole seconds; 0: no such header.
	RetryAfter time.Duration
	// RetryAfterDate writes it as an HTTP date.
	RetryAfterDate bool
	// Delay is how long slow, drip and late take; 2 s when zero.
	Delay time.Duration
}

// faultKinds lists what can happen where, in the order of the help text.
var faultKinds = []struct {
	kind      FaultKind
	endpoints []Endpoint
	help      string
}{
	{"400", requests, "Bad Request"},
	{"401", requests, "Unauthorized; the token stays valid"},
	{"403", requests, "Forbidden"},
	{"404", requests, "Not Found"},
	{"429", requests, "Too Many Requests; retry-after=2s or retry-after=date:2s sends Retry-After"},
	{"500", requests, "Internal Server Error"},
	{"502", requests, "Bad Gateway"},
	{"503", requests, "Service Unavailable; retry-after as with 429"},
	{FaultRevoked, withToken, "401, and the request's token is revoked"},
	{FaultSlow, requests, "the answer comes after delay=2s"},
	{FaultDrip, withBody, "the body drips over delay=2s"},
	{FaultHang, requests, "no answer until the client gives up"},
	{FaultReset, requests, "the connection is reset"},
	{FaultRedirect, requests, "302 to a trap that counts who follows"},
	{FaultTruncated, withBody, "less body than Content-Length says"},
	{FaultHTML, requests, "200 with a page of HTML"},
	{FaultEmpty, withBody, "200 with an empty body"},
	{FaultBrokenJSON, withJSON, "200 with JSON cut off in the middle"},
	{FaultNotFinal, []Endpoint{EndpointStatus, EndpointDetails}, "the status is still ACQUIRED"},
	{FaultWrongType, []Endpoint{EndpointImage}, "a Content-Type that contradicts the content (not for facemaps)"},
	{FaultLost, callbacks, "no callback is ever sent; with times only the last ones are not"},
	{FaultDuplicate, callbacks, "every callback comes times more, at the same time"},
	{FaultLate, callbacks, "the last callback comes delay=2s after its callbackSentAt"},
	{FaultReordered, callbacks, "the last callback comes first, with its true callbackSentAt"},
	{FaultEqualTimes, callbacks, "the last callback comes first, and all have the same callbackSentAt"},
	{FaultNoAccount, callbacks, "the callback names no account"},
	{FaultNoHref, callbacks, "the callback has no href"},
	{FaultIDOnly, callbacks, "the callback has workflowExecution.id and nothing else"},
}

var (
	// common are the endpoints whose requests belong to no journey, perJourney those whose
	// requests do.
	common     = []Endpoint{EndpointToken, EndpointAccount, EndpointHealth}
	perJourney = []Endpoint{EndpointUpload, EndpointFinalize, EndpointStatus, EndpointDetails, EndpointImage, EndpointDelete}
	requests   = slices.Concat(common, perJourney)
	withJSON   = slices.Concat(common, []Endpoint{EndpointUpload, EndpointFinalize, EndpointStatus, EndpointDetails})
	withBody   = slices.Concat(withJSON, []Endpoint{EndpointImage})
	withToken  = []Endpoint{EndpointAccount, EndpointStatus, EndpointDetails, EndpointImage, EndpointDelete}
	callbacks  = []Endpoint{EndpointCallback}
)

// DefaultFaultPool holds faults that a client survives: each passes after a few
// requests.
func DefaultFaultPool() []Fault {
	texts := []string{
		"details:400:1", "details:401:1", "details:revoked:1", "details:403:1", "details:404:2", "details:429:1",
		"details:429:1:retry-after=1s", "details:429:1:retry-after=date:1s", "details:500:2", "details:502:1", "details:503:1:retry-after=1s",
		"details:slow:1:delay=500ms", "details:broken_json:1", "details:not_final:2", "details:reset:1", "details:redirect:1", "details:html:1",
		"image:401:1", "image:revoked:1", "image:404:1", "image:429:1", "image:429:1:retry-after=1s", "image:500:1", "image:drip:1:delay=500ms",
		"image:truncated:2", "image:empty:1", "image:html:1", "image:wrong_type:1", "image:reset:1",
		"callback:duplicate:1", "callback:duplicate:4", "callback:late:1:delay=1s", "callback:reordered", "callback:equal_times",
		"callback:no_account", "callback:no_href", "callback:id_only",
	}
	pool, err := ParseFaults(texts)
	if err != nil {
		panic(err) // a wrong text above
	}
	return pool
}

// ParseFault reads "endpoint:kind[:times][:option=value]...", with the options
// for, part, retry-after and delay. Its error says what would be right.
func ParseFault(text string) (Fault, error) {
	// retry-after=date:2s holds a colon of its own.
	fields := strings.Split(strings.Replace(text, "date:", "date ", 1), ":")
	if len(fields) < 2 {
		return Fault{}, fmt.Errorf("fault %q: want endpoint:kind[:times][:option=value]", text)
	}
	f := Fault{Endpoint: Endpoint(fields[0]), Kind: FaultKind(fields[1])}
	for i, field := range fields[2:] {
		name, value, isOption := strings.Cut(field, "=")
		var err error
		if isOption {
			err = f.setOption(name, value)
		} else if f.Times, err = strconv.Atoi(field); i != 0 || err != nil {
			err = fmt.Errorf("%q is neither a number of times in the third place nor option=value", field)
		}
		if err != nil {
			return Fault{}, fmt.Errorf("fault %q: %w", text, err)
		}
	}
	return f, f.validate()
}

func (f *Fault) setOption(name, value string) error {
	target := &f.Delay
	switch name {
	case "part":
		f.Part = value
		return nil
	case "retry-after":
		target = &f.RetryAfter
		if date, ok := strings.CutPrefix(value, "date "); ok {
			f.RetryAfterDate, value = true, date
		}
	case "for":
		target = &f.For
	case "delay":
	default:
		return fmt.Errorf("unknown option %q: want for, part, retry-after or delay", name)
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return fmt.Errorf("%s: %q is no duration such as 2s", name, value)
	}
	*target = d
	return nil
}

// UnmarshalText is ParseFault for decoders.
func (f *Fault) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFault(string(text))
	return err
}

// ParseFaults is ParseFault for several.
func ParseFaults(texts []string) ([]Fault, error) {
	faults := make([]Fault, len(texts))
	for i, text := range texts {
		var err error
		if faults[i], err = ParseFault(text); err != nil {
			return nil, err
		}
	}
	return faults, nil
}

// String is the text form that ParseFault reads.
func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%s:%d", f.Endpoint, f.Kind, f.Times)
	if f.For > 0 {
		fmt.Fprintf(&b, ":for=%s", f.For)
	}
	if f.Part != "" {
		b.WriteString(":part=" + f.Part)
	}
	if f.RetryAfterDate {
		fmt.Fprintf(&b, ":retry-after=date:%s", f.RetryAfter)
	} else if f.RetryAfter > 0 {
		fmt.Fprintf(&b, ":retry-after=%s", f.RetryAfter)
	}
	if f.Delay > 0 {
		fmt.Fprintf(&b, ":delay=%s", f.Delay)
	}
	return b.String()
}

func (f Fault) validate() error {
	var endpoints []Endpoint // where it can happen
	for _, known := range faultKinds {
		if known.kind == f.Kind {
			endpoints = known.endpoints
		}
	}
	switch {
	case endpoints == nil:
		return fmt.Errorf("fault %s: unknown kind %q", f, f.Kind)
	case !slices.Contains(endpoints, f.Endpoint):
		return fmt.Errorf("fault %s: %s happens at %s only", f, f.Kind, join(endpoints))
	case f.Times < 0:
		return fmt.Errorf("fault %s: the number of times is negative", f)
	case f.Part != "" && f.Endpoint != EndpointImage:
		return fmt.Errorf("fault %s: only an image fault has a part", f)
	}
	return nil
}

// FaultHelp lists endpoints and kinds, one line per kind.
func FaultHelp() string {
	var b strings.Builder
	for _, k := range faultKinds {
		where := join(k.endpoints)
		if len(k.endpoints) == len(requests) {
			where = "every request"
		}
		fmt.Fprintf(&b, "  %-12s %s (%s)\n", k.kind, k.help, where)
	}
	return b.String()
}

// join lists names for people.
func join[T ~string](names []T) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}

// refuses reports whether the request is not carried out, as opposed to an answer
// that is late, broken or missing.
func (f Fault) refuses() bool {
	_, err := strconv.Atoi(string(f.Kind))
	return err == nil || slices.Contains([]FaultKind{FaultRevoked, FaultRedirect, FaultHTML}, f.Kind)
}

func (f Fault) delay() time.Duration { return cmp.Or(f.Delay, 2*time.Second) }
