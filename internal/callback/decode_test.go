package callback

import (
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// guideExample is the callback in the guide's chapter "Callback", verbatim.
const guideExample = `{
  "callbackSentAt":"2021-01-21T14:55:01.917Z",
  "workflowExecution":{
    "id":"22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "href":"https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx/workflow-executions/22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "definitionKey":"3",
    "status":"PROCESSED"
},
  "account":{
    "id":"11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "href":"https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
  }
}
`

var cmpAddr = cmpopts.EquateComparable(netip.Addr{})

var guideFields = &Callback{
	WorkflowExecutionID: "22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
	WorkflowStatus:      "PROCESSED",
	WorkflowHref:        "https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx/workflow-executions/22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
	DefinitionKey:       "3",
	AccountID:           "11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
	AccountHref:         "https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
	CallbackSentAt:      time.Date(2021, 1, 21, 14, 55, 1, 917e6, time.UTC),
}

// guideForm is the guide's example as a form; member builds the name of an
// object's member.
func guideForm(member func(object, name string) string) string {
	return url.Values{
		"callbackSentAt":                             {"2021-01-21T14:55:01.917Z"},
		member("workflowExecution", "id"):            {guideFields.WorkflowExecutionID},
		member("workflowExecution", "href"):          {guideFields.WorkflowHref},
		member("workflowExecution", "definitionKey"): {guideFields.DefinitionKey},
		member("workflowExecution", "status"):        {guideFields.WorkflowStatus},
		member("account", "id"):                      {guideFields.AccountID},
		member("account", "href"):                    {guideFields.AccountHref},
	}.Encode()
}

func dotted(object, name string) string    { return object + "." + name }
func bracketed(object, name string) string { return object + "[" + name + "]" }

// guideMember returns one object of the guide's example.
func guideMember(t testing.TB, name string) string {
	t.Helper()
	var top map[string]json.RawMessage
	if err := json.Unmarshal([]byte(guideExample), &top); err != nil {
		t.Fatal(err)
	}
	return string(top[name])
}

func TestDecodeGuideExampleInAllForms(t *testing.T) {
	jsonValued := url.Values{
		"callbackSentAt":    {"2021-01-21T14:55:01.917Z"},
		"workflowExecution": {guideMember(t, "workflowExecution")},
		"account":           {guideMember(t, "account")},
	}.Encode()
	compact := strings.NewReplacer("\n", "", " ", "").Replace(guideExample)
	unescapedForm, err := url.QueryUnescape(guideForm(dotted))
	if err != nil {
		t.Fatal(err)
	}

	for name, body := range map[string]string{
		"JSON":                                       guideExample,
		"JSON, compact":                              compact,
		"JSON after a byte order mark":               "\ufeff" + guideExample,
		"JSON after white space":                     "\r\n \t" + guideExample,
		"form with dotted keys":                      guideForm(dotted),
		"form with dotted keys, nothing escaped":     unescapedForm,
		"form with dotted keys and a newline":        guideForm(dotted) + "\r\n",
		"form with bracketed keys":                   guideForm(bracketed),
		"form with bracketed keys, unescaped":        strings.NewReplacer("%5B", "[", "%5D", "]").Replace(guideForm(bracketed)),
		"form with JSON-valued fields":               jsonValued,
		"form, single key is the JSON":               url.QueryEscape(guideExample),
		"form, single key is the JSON, empty value":  url.QueryEscape(guideExample) + "=",
		"form, single key is the JSON, unescaped":    compact + "=",
		"form, single key, only the brace unescaped": "{" + strings.TrimPrefix(url.QueryEscape(guideExample), "%7B"),
		"form, single value is the JSON":             "payload=" + url.QueryEscape(guideExample),
		"form, single value is the JSON, unescaped":  "payload=" + compact,
		"form, single value, empty key":              "=" + url.QueryEscape(guideExample),
		"form with empty pairs":                      "&&" + guideForm(dotted) + "&",
		"form with unknown fields and a semicolon":   "a;b=c;d&" + guideForm(dotted) + "&workflowExecution.x=1&account[y]=2",
		"form, dotted and bracketed mixed":           strings.Replace(guideForm(dotted), "account.id", "account[id]", 1),
		"form, the last of duplicate keys holds":     "workflowExecution.id=old&account=%7B%22id%22%3A1%7D&" + guideForm(dotted),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(body))
			if err != nil {
				t.Fatalf("Decode: %v", err)
			}
			if diff := cmp.Diff(guideFields, got, cmpAddr); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeOddButValid(t *testing.T) {
	sent := time.Date(2021, 1, 21, 14, 55, 1, 0, time.UTC)
	for name, tc := range map[string]struct {
		body string
		want *Callback
	}{
		"only the id": {
			`{"workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a"},
		},
		"longest id": {
			`{"workflowExecution":{"id":"` + strings.Repeat("Z", 64) + `"}}`, &Callback{WorkflowExecutionID: strings.Repeat("Z", 64)},
		},
		"unknown status and unknown fields": {
			`{"new":[{"a":null}],"workflowExecution":{"id":"a","status":"SOMETHING_NEW","later":{"b":[1]}},"account":{"z":1}}`,
			&Callback{WorkflowExecutionID: "a", WorkflowStatus: "SOMETHING_NEW"},
		},
		"definitionKey is a number": {
			`{"workflowExecution":{"id":"a","definitionKey":10032}}`, &Callback{WorkflowExecutionID: "a", DefinitionKey: "10032"},
		},
		"a number's text is kept verbatim": {
			`{"workflowExecution":{"id":"a","definitionKey":1.50e+400}}`, &Callback{WorkflowExecutionID: "a", DefinitionKey: "1.50e+400"},
		},
		"numbers where strings are expected": {
			`{"userReference":7,"workflowExecution":{"id":12345678901234567890,"status":-1},"account":{"id":3}}`,
			&Callback{WorkflowExecutionID: "12345678901234567890", WorkflowStatus: "-1", AccountID: "3", UserReference: "7"},
		},
		"null, booleans, objects and arrays are absent": {
			`{"callbackSentAt":{},"userReference":null,"workflowExecution":{"id":"a","status":true,"href":["x"],"definitionKey":{}},"account":"x"}`,
			&Callback{WorkflowExecutionID: "a"},
		},
		"account is null": {
			`{"workflowExecution":{"id":"a"},"account":null}`, &Callback{WorkflowExecutionID: "a"},
		},
		"account is an array": {
			`{"workflowExecution":{"id":"a"},"account":[{"id":"b"}]}`, &Callback{WorkflowExecutionID: "a"},
		},
		"account.id that is no id": {
			`{"workflowExecution":{"id":"a"},"account":{"id":"../x"}}`, &Callback{WorkflowExecutionID: "a", AccountID: "../x"},
		},
		"names are matched exactly": {
			`{"workflowExecution":{"id":"a","ID":"b","Status":"X"},"WorkflowExecution":{"id":"c"},"USERREFERENCE":"u"}`,
			&Callback{WorkflowExecutionID: "a"},
		},
		"an escaped name is the name": {
			`{"workflowExecution":{"\u0069d":"a"}}`, &Callback{WorkflowExecutionID: "a"},
		},
		"the last of duplicate names holds": {
			`{"workflowExecution":{"id":"../","status":"OLD","id":"a"},"userReference":"1","userReference":"2"}`,
			&Callback{WorkflowExecutionID: "a", WorkflowStatus: "OLD", UserReference: "2"},
		},
		"the last of duplicate objects holds, not their union": {
			`{"workflowExecution":{"id":"a","status":"OLD"},"workflowExecution":{"id":"b"}}`, &Callback{WorkflowExecutionID: "b"},
		},
		"NUL in strings": {
			`{"userReference":"a\u0000b","workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a", UserReference: "a\ufffdb"},
		},
		"NUL in a form": {
			"workflowExecution.id=a&userReference=a%00b", &Callback{WorkflowExecutionID: "a", UserReference: "a\ufffdb"},
		},
		"lone surrogates": {
			`{"userReference":"\ud800x\udc00","workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a", UserReference: "\ufffdx\ufffd"},
		},
		"invalid UTF-8": {
			"{\"userReference\":\"\xff\",\"workflowExecution\":{\"id\":\"a\"}}", &Callback{WorkflowExecutionID: "a", UserReference: "\ufffd"},
		},
		"invalid UTF-8 in a form": {
			"workflowExecution.id=a&userReference=%ff\xff", &Callback{WorkflowExecutionID: "a", UserReference: "\ufffd"},
		},
		"escapes in strings": {
			`{"workflowExecution":{"id":"\u0061","href":"https:\/\/x\/\"y\""}}`, &Callback{WorkflowExecutionID: "a", WorkflowHref: `https://x/"y"`},
		},
		"plus and percent in a form": {
			"workflowExecution.id=a&userReference=b+c%2Bd", &Callback{WorkflowExecutionID: "a", UserReference: "b c+d"},
		},
		"deep but allowed nesting in an unknown field": {
			`{"workflowExecution":{"id":"a"},"x":` + strings.Repeat("[", 9990) + strings.Repeat("]", 9990) + `}`,
			&Callback{WorkflowExecutionID: "a"},
		},
		"objects in a form are null": {
			"workflowExecution=null&account=null&workflowExecution.id=a&account.id=b", &Callback{WorkflowExecutionID: "a", AccountID: "b"},
		},
		"account in a form is broken JSON": {
			"workflowExecution.id=a&account=%7Bx", &Callback{WorkflowExecutionID: "a"},
		},
		"callbackSentAt without a fraction": {
			`{"callbackSentAt":"2021-01-21T14:55:01Z","workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a", CallbackSentAt: sent},
		},
		"callbackSentAt with nanoseconds": {
			`{"callbackSentAt":"2021-01-21T14:55:01.123456789Z","workflowExecution":{"id":"a"}}`,
			&Callback{WorkflowExecutionID: "a", CallbackSentAt: sent.Add(123456789)},
		},
		"callbackSentAt with an offset": {
			`{"callbackSentAt":"2021-01-21T20:25:01.000+05:30","workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a", CallbackSentAt: sent},
		},
		"callbackSentAt in lower case": {
			`{"callbackSentAt":" 2021-01-21t14:55:01z ","workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a", CallbackSentAt: sent},
		},
		"callbackSentAt is an epoch": {
			`{"callbackSentAt":1611240901,"workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a"},
		},
		"callbackSentAt is not a date": {
			`{"callbackSentAt":"2021-02-30T00:00:00Z","workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a"},
		},
		"callbackSentAt in an absurd year": {
			`{"callbackSentAt":"292277026596-01-01T00:00:00Z","workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a"},
		},
		"callbackSentAt after year 9999": {
			`{"callbackSentAt":"9999-12-31T23:59:59-14:00","workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a"},
		},
		"callbackSentAt before year 1": {
			`{"callbackSentAt":"0001-01-01T00:00:00+14:00","workflowExecution":{"id":"a"}}`, &Callback{WorkflowExecutionID: "a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(tc.body))
			if err != nil {
				t.Fatalf("Decode: %v", err)
			}
			if diff := cmp.Diff(tc.want, got, cmpAddr); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want DecodeError
	}{
		"nothing":                                 {"", ErrEmptyBody},
		"white space":                             {" \r\n", ErrEmptyBody},
		"only a byte order mark":                  {"\ufeff", ErrEmptyBody},
		"JSON array":                              {`[{"workflowExecution":{"id":"a"}}]`, ErrNotACallback},
		"JSON array that would also be a form":    {`["&workflowExecution.id=a&"]`, ErrNotACallback},
		"JSON string":                             {`"workflowExecution.id=a"`, ErrNotACallback},
		"JSON number":                             {`1`, ErrNotACallback},
		"JSON null":                               {`null`, ErrNotACallback},
		"JSON array as a form's value":            {`p=[{"workflowExecution":{"id":"a"}}]`, ErrNotACallback},
		"text":                                    {"hello, world", ErrNotACallback},
		"UTF-16":                                  {"\xff\xfe{\x00}\x00", ErrNotACallback},
		"form of something else":                  {"a=1&b=2", ErrNotACallback},
		"form, two fields, one holds the JSON":    {"a=1&b=%7B%22workflowExecution%22%3A%7B%22id%22%3A%22a%22%7D%7D", ErrNotACallback},
		"JSON object without workflowExecution":   {`{}`, ErrMissingID},
		"workflowExecution is null":               {`{"workflowExecution":null}`, ErrMissingID},
		"workflowExecution is a string":           {`{"workflowExecution":"a"}`, ErrMissingID},
		"workflowExecution is an array":           {`{"workflowExecution":[{"id":"a"}]}`, ErrMissingID},
		"workflowExecution in a wrong case":       {`{"WorkflowExecution":{"id":"a"}}`, ErrMissingID},
		"id in a wrong case":                      {`{"workflowExecution":{"ID":"a"}}`, ErrMissingID},
		"id is null":                              {`{"workflowExecution":{"id":null}}`, ErrMissingID},
		"id is true":                              {`{"workflowExecution":{"id":true}}`, ErrMissingID},
		"id is an object":                         {`{"workflowExecution":{"id":{"id":"a"}}}`, ErrMissingID},
		"id is empty":                             {`{"workflowExecution":{"id":""}}`, ErrMissingID},
		"the last of duplicate ids is null":       {`{"workflowExecution":{"id":"a","id":null}}`, ErrMissingID},
		"form without the id":                     {"workflowExecution.status=PROCESSED", ErrMissingID},
		"form, workflowExecution is no JSON":      {"workflowExecution=%7Bid", ErrMissingID},
		"form, garbage after the JSON of a field": {"workflowExecution=%7B%22id%22%3A1%7Dx", ErrMissingID},
		"form, the last object has no id":         {"workflowExecution.id=a&workflowExecution=%7B%7D", ErrMissingID},
		"id with a newline at its end":            {`{"workflowExecution":{"id":"a\n"}}`, ErrInvalidID},
		"form, id with a newline at its end":      {"workflowExecution.id=a%0A", ErrInvalidID},
		"id of 65 characters":                     {`{"workflowExecution":{"id":"` + strings.Repeat("a", 65) + `"}}`, ErrInvalidID},
		"id with a slash":                         {`{"workflowExecution":{"id":"a/../b"}}`, ErrInvalidID},
		"id with a letter that is not ASCII":      {`{"workflowExecution":{"id":"ä"}}`, ErrInvalidID},
		"id with NUL":                             {`{"workflowExecution":{"id":"a\u0000"}}`, ErrInvalidID},
		"id is a fraction":                        {`{"workflowExecution":{"id":1.5}}`, ErrInvalidID},
		"the last of duplicate ids is invalid":    {`{"workflowExecution":{"id":"a","id":"b/c"}}`, ErrInvalidID},
		"broken JSON":                             {`{"workflowExecution":{"id":"a"},}`, ErrInvalidJSON},
		"only an opening brace and text":          {`{workflowExecution.id=a`, ErrInvalidJSON},
		"control character in a JSON string":      {"{\"workflowExecution\":{\"id\":\"a\x00\"}}", ErrInvalidJSON},
		"broken JSON in a form":                   {"p=%7B%22workflowExecution%22%3A%7D", ErrInvalidJSON},
		"nested too deep":                         {`{"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `,"workflowExecution":{"id":"a"}}`, ErrInvalidJSON},
		"truncated JSON":                          {guideExample[:100], ErrTruncatedJSON},
		"truncated, deep":                         {strings.Repeat(`{"x":`, 5000), ErrTruncatedJSON},
		"a second JSON object":                    {guideExample + guideExample, ErrTrailingData},
		"garbage after the JSON":                  {guideExample + "x", ErrTrailingData},
		"a form after the JSON":                   {`{"workflowExecution":{"id":"a"}}&workflowExecution.id=b`, ErrTrailingData},
		"NUL after the JSON":                      {`{"workflowExecution":{"id":"a"}}` + "\x00", ErrTrailingData},
		"broken percent-encoding":                 {"workflowExecution.id=%zz", ErrInvalidForm},
		"percent-encoding cut off":                {"workflowExecution.id=a&x=%4", ErrInvalidForm},
		"broken percent-encoding in a key":        {"%=1&workflowExecution.id=a", ErrInvalidForm},
		"1 MiB of one key":                        {strings.Repeat("k", 1<<20), ErrNotACallback},
		"1 MiB of one JSON key":                   {`{"` + strings.Repeat("k", 1<<20) + `":1}`, ErrMissingID},
		"1 MiB of separators":                     {strings.Repeat("&", 1<<20), ErrNotACallback},
		"1 MiB of opening brackets":               {`{"a":` + strings.Repeat("[", 1<<20), ErrInvalidJSON},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(tc.body))
			var code DecodeError
			if !errors.As(err, &code) || code != tc.want {
				t.Errorf("Decode: error %v, want %v", err, tc.want)
			}
			if got != nil {
				t.Errorf("beside the error there is %+v", got)
			}
		})
	}
}
