package main

import (
	"strings"
	"testing"

	"callbackd/internal/store/storetest"
)

// Without a setting nothing goes, and the plan says so.
func TestRetentionPlan(t *testing.T) {
	t.Parallel()
	dsn := "DATABASE_URL=" + storetest.NewMigrated(t)
	for _, tc := range []struct {
		args    []string
		environ []string
		code    int
		want    string
	}{
		{[]string{"retention", "plan"}, nil, 0, "CALLBACKD_RETENTION=\n\nNothing that is stored is to be deleted.\n"},
		{[]string{"retention", "plan"}, []string{"CALLBACKD_RETENTION=images=6mo"}, 0, "CALLBACKD_RETENTION=images=6mo\n\nNothing that is stored is to be deleted.\n"},
		{[]string{"retention", "plan", "--json"}, nil, 0, "[]\n"},
		{[]string{"retention", "plan"}, []string{"CALLBACKD_RETENTION=pictures=6mo"}, 1, ""},
		{[]string{"retention", "plan", "surplus"}, nil, 2, ""},
		{[]string{"retention"}, nil, 2, ""},
	} {
		got := callbackd(t, append(tc.environ, dsn), tc.args...)
		if got.Code != tc.code || !strings.HasSuffix(got.Stdout, tc.want) || tc.code != 0 && strings.Count(got.Stderr, "\n") != 1 {
			t.Errorf("%v %v: %+v", tc.environ, tc.args, got)
		}
	}
}
