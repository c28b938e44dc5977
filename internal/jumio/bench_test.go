package jumio

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// repeated fills a document of about size bytes (head, elements, tail) with
// numbered elements.
func repeated(size int, head, element, tail string) []byte {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len() < size-len(tail); i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strings.ReplaceAll(element, "#", fmt.Sprint(i)))
	}
	b.WriteString(tail)
	return []byte(b.String())
}

// hostileDetails are of the largest size, and cost much to read carelessly.
func hostileDetails(size int) map[string][]byte {
	account := `{"account":{"id":"` + accountID + `"},`
	return map[string][]byte{
		"parts":                      repeated(size, account+`"credentials":[{"id":"c","category":"ID","parts":[`, `{"classifier":"P#"}`, `]}]}`),
		"parts without a classifier": repeated(size, account+`"credentials":[`, `{"id":"c#","parts":[{}]}`, `]}`),
		"the same part":              repeated(size, account+`"credentials":[{"id":"c","parts":[`, `{"classifier":"FRONT"}`, `]}]}`),
		"empty parts":                repeated(size, account+`"credentials":[{"id":"c","parts":[`, `{}`, `]}]}`),
		"credentials":                repeated(size, account+`"credentials":[`, `{"id":"c#","category":"FACEMAP"}`, `]}`),
		"capabilities":               repeated(size, account+`"capabilities":{`, `"c#":{}`, `}}`),
		"facemaps": repeated(size, account+`"credentials":[{"id":"f","category":"FACEMAP"}],"capabilities":{"liveness":[`,
			`{"validFaceMapForAuthentication":"x"}`, `]}}`),
		"facemaps in many capabilities": repeated(size, account+`"credentials":[{"id":"f","category":"FACEMAP"}],"capabilities":{`,
			`"c#":{"validFaceMapForAuthentication":"x"}`, `}}`),
		"facemaps among credentials": slices.Concat(
			repeated(size/2, account+`"credentials":[`, `{"id":"c#","category":"FACEMAP"}`, `],`),
			repeated(size/2, `"capabilities":{"liveness":[`, `{"validFaceMapForAuthentication":"x"}`, `]}}`)),
		"escaped parts":    repeated(size, account+`"credentials":[{"id":"c","category":"ID","parts":[`, `{"classifier":"\u0050#"}`, `]}]}`),
		"a long reference": repeated(size, account+`"workflow":{"userReference":"`, `\u0000`, `"}}`),
		"members":          repeated(size, account, `"m#":0`, `}`),
	}
}

func BenchmarkParseDetails(b *testing.B) {
	c, err := New(testConfig("http://127.0.0.1:8099"), nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, body []byte) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.ParseDetails(body, testWorkflow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("guide", []byte(guideDetails))
	run("60,000 parts", hostileDetails(60_000 * 25)["parts"])
	for name, body := range hostileDetails(detailsLimit) {
		run("32 MiB: "+name, body)
	}
}
