package callback

import (
	"bytes"
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// asForm and asJSON write a callback as a sender would.
func (c *Callback) asForm() string {
	v := url.Values{"workflowExecution.id": {c.WorkflowExecutionID}}
	for key, value := range map[string]string{
		"workflowExecution.status": c.WorkflowStatus, "workflowExecution.href": c.WorkflowHref,
		"workflowExecution.definitionKey": c.DefinitionKey, "account.id": c.AccountID,
		"account.href": c.AccountHref, "userReference": c.UserReference, "callbackSentAt": c.sentAt(),
	} {
		if value != "" {
			v.Set(key, value)
		}
	}
	return v.Encode()
}

func (c *Callback) asJSON(t testing.TB) []byte {
	text, err := json.Marshal(map[string]any{
		"callbackSentAt": c.sentAt(), "userReference": c.UserReference,
		"workflowExecution": map[string]string{
			"id": c.WorkflowExecutionID, "status": c.WorkflowStatus, "href": c.WorkflowHref, "definitionKey": c.DefinitionKey,
		},
		"account": map[string]string{"id": c.AccountID, "href": c.AccountHref},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (c *Callback) sentAt() string {
	if c.CallbackSentAt.IsZero() {
		return ""
	}
	return c.CallbackSentAt.Format(time.RFC3339Nano)
}

// checkAgainstReference decodes a body both ways.
func checkAgainstReference(t testing.TB, body []byte) (*Callback, error) {
	t.Helper()
	buffer := bytes.Clone(body)
	got, err := Decode(buffer)
	if !bytes.Equal(buffer, body) {
		t.Fatalf("body %q was changed to %q", body, buffer)
	}
	clear(buffer) // fields must not change with a buffer that is used again
	want, wantErr := referenceDecode(body)
	if err != wantErr { //nolint:errorlint // the documented error is a bare DecodeError
		t.Fatalf("body %q: error %v, want %v", body, err, wantErr)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("body %q: fields (-want +got):\n%s", body, cmp.Diff(want, got, cmpAddr))
	}
	return got, err
}

// bodies returns callbacks in every form, and hard cases of each.
func bodies(t testing.TB) []string {
	jsonValued := url.Values{
		"workflowExecution": {guideMember(t, "workflowExecution")}, "account": {guideMember(t, "account")},
	}.Encode()
	return []string{
		guideExample,
		guideForm(dotted),
		guideForm(bracketed),
		url.QueryEscape(guideExample),
		url.QueryEscape(guideExample) + "=",
		"payload=" + url.QueryEscape(guideExample),
		jsonValued,
		"{%22workflowExecution%22:{%22id%22:%22a%22}}",
		`{"workflowExecution":{"id":"a"}}=`,
		`{"workflowExecution":{"id":"a"}}==`,
		"\ufeff{\"workflowExecution\":{\"id\":1,\"status\":\"\\ud800\\u0000\xff\"},\"callbackSentAt\":\"9999-12-31T23:59:59-23:59\"}",
		"\u00a0\ufeff{}\u2028",
		`{"workflowExecution":{"id":"a","id":{}},"account":[],"userReference":false}`,
		`{"workflowExecution":{"id":"a"},"workflowExecution":null}`,
		`{"workflowExecution":{"id":"a"},"account":{"id":"b"},"account":7}`,
		`{"workflowExecution":{"\u0069d":"a","i\u0064":"b","\ud83d\ude00":"\ud83d\ude00"},"userRe\u0066erence":"\/\b\f\n\r\t\"\\"}`,
		`{"WorkflowExecution":{"id":"a"},"workflowexecution":{"id":"b"},"workflowExecution":{"Id":"c","id":"d"}}`,
		"{\"workflowExecution\":{\"id\xff\":\"a\",\"id\ufffd\":\"b\",\"id\":\"c\",\"status\":\"\xed\xa0\x80\"}}",
		`{"workflowExecution":{"id":-0,"status":1E5,"definitionKey":0.10e-7,"href":1e999999}}`,
		`{"workflowExecution":{"id":"a"},"x":[{"workflowExecution":{"id":"b"}},"}",{"":{"":[]}},true,false,null]}`,
		`{"workflowExecution":{"id":"a","later":{"id":"b","status":["x"]},"status":"S"},"id":"c"}`,
		`{"callbackSentAt":"2021-01-21t14:55:01,5+05:30","workflowExecution":{"id":"a"}}`,
		`{"callbackSentAt":"2016-12-31T23:59:60Z","workflowExecution":{"id":"a"}}`,
		`["&workflowExecution.id=a&"]`,
		"workflowExecution=null&account=null&workflowExecution.id=a&account.id=b",
		"workflowExecution.=a&workflowExecution[]=b&workflowExecution[id=c&workflowExecution.id]=d&workflowExecution.id=e",
		"workflowExecution[id]]=a&workflowExecution[=b&workflowExecution[id][x]=c&workflowExecution%5bid%5D=d",
		"workflowExecution=%7B%22id%22%3A%22a%22%7D&workflowExecution=%7B%22status%22%3A%22S%22%7D&account[id]",
		"=%7B%22workflowExecution%22%3A%7B%22id%22%3A%22a%22%7D%7D",
		"%7B%7D=%7B%22workflowExecution%22%3A%7B%22id%22%3A%22a%22%7D%7D",
		"", "{", "%", "null", "{}", "{}{}", "{}x", "{},", "{}]", "{\"a\"", "&", "=", "{\x00}", "{}\u00a0x", "{}\v", "[", `"`,
	}
}

// spoilers are inserted into bodies: decoders differ over each.
var spoilers = []string{
	"", `"`, `\`, "{", "}", "[", "]", ",", ":", " ", "\x00", "\n", "\v", "\xff", "\u00a0", "\ufeff", "\u2028",
	"=", "&", "%", "%00", "%2", "+", ";", ".", "0", "-", "1e", "x", "null", "true", "tru", "//", "/**/",
	`\u0000`, `\ud800`, `\u12`, `\x`, `"id":"b",`, `"id":null,`, `{"id":"b"}`, `,"workflowExecution":{"id":"b"}`,
	"&workflowExecution.id=b&", "&account[id]=b", "&workflowExecution=%7B%22id%22%3A%22b%22%7D",
}

// Every short body, at every position: truncated, with a byte removed, with a spoiler
// inserted or in place of a byte.
func TestDecodeAgreesWithReference(t *testing.T) {
	whole := append(bodies(t),
		`{"workflowExecution":{"id":"a","status":"PROCESSED"},"account":{"id":7},"userReference":"u"}`,
		"workflowExecution.id=a&account[id]=b&userReference=c",
		// Too long to be mutated by the fuzzer, which would be slow.
		`{"x":`+strings.Repeat("[", 10000),
	)
	for _, depth := range []int{9998, 9999, 10000} {
		whole = append(whole, `{"x":`+strings.Repeat("[", depth)+strings.Repeat("]", depth)+`,"workflowExecution":{"id":"a"}}`)
	}
	outcomes := map[error]int{}
	for _, body := range whole {
		_, err := checkAgainstReference(t, []byte(body))
		outcomes[err]++
		if len(body) > 96 {
			continue
		}
		for i := range len(body) + 1 {
			_, err := checkAgainstReference(t, []byte(body[:i]))
			outcomes[err]++
			for _, spoiler := range spoilers {
				_, err := checkAgainstReference(t, []byte(body[:i]+spoiler+body[i:]))
				outcomes[err]++
				if i < len(body) {
					_, err := checkAgainstReference(t, []byte(body[:i]+spoiler+body[i+1:]))
					outcomes[err]++
				}
			}
		}
	}
	for _, code := range []error{
		nil, ErrEmptyBody, ErrInvalidJSON, ErrTruncatedJSON, ErrTrailingData, ErrInvalidForm, ErrNotACallback, ErrMissingID, ErrInvalidID,
	} {
		if outcomes[code] == 0 {
			t.Errorf("no body led to %v", code)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range bodies(f) {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fields, err := checkAgainstReference(t, body)
		if err != nil {
			return
		}
		for _, s := range []string{
			fields.WorkflowStatus, fields.WorkflowHref, fields.DefinitionKey,
			fields.AccountID, fields.AccountHref, fields.UserReference,
		} {
			if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
				t.Fatalf("Postgres cannot store %q", s)
			}
		}
		for form, text := range map[string][]byte{"JSON": fields.asJSON(t), "form": []byte(fields.asForm())} {
			again, err := Decode(text)
			if err != nil {
				t.Fatalf("as %s %q: %v", form, text, err)
			}
			if diff := cmp.Diff(fields, again, cmpAddr); diff != "" {
				t.Fatalf("as %s %q:\n%s", form, text, diff)
			}
		}
	})
}
