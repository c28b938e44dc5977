package callback

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBound(t *testing.T) {
	long := strings.Repeat("ä", 5000)
	for name, tc := range map[string]struct{ in, want Callback }{
		"what Jumio sends stays": {
			Callback{AccountID: "11111111-xxxx", WorkflowStatus: "PROCESSED", WorkflowHref: "https://h/x", DefinitionKey: "3", UserReference: "r", ContentType: "t"},
			Callback{AccountID: "11111111-xxxx", WorkflowStatus: "PROCESSED", WorkflowHref: "https://h/x", DefinitionKey: "3", UserReference: "r", ContentType: "t"},
		},
		"cut off": {
			Callback{WorkflowStatus: long, DefinitionKey: long, ContentType: long},
			Callback{WorkflowStatus: long[:2*64], DefinitionKey: long[:2*64], ContentType: long[:2*256]},
		},
		"absent": {
			Callback{AccountID: long, WorkflowHref: long, AccountHref: long, UserReference: long}, Callback{},
		},
		"an account id that is none": {Callback{AccountID: "a b"}, Callback{}},
		"characters count, not bytes": {
			Callback{UserReference: long[:2*256]}, Callback{UserReference: long[:2*256]},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.in.Bound()
			if d := cmp.Diff(tc.want, tc.in, cmpAddr); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
