package fetcher

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/jumio"
	"callbackd/internal/store/results"
	"callbackd/internal/workflow"
)

func TestOtherAddresses(t *testing.T) {
	client, err := jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: "c", ClientSecret: "s"}, UserAgent: "Test Worker/v1", Budget: jumio.NewLocalBudget(1), MaxImageBytes: 1, ProgressTimeout: time.Second,
	}, zap.NewNop(), jumio.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	named := func(dataCenter, account string) results.Address {
		return results.Address{AccountID: account, AccountHref: "https://retrieval." + dataCenter + ".jumio.ai/api/v1/accounts/" + account}
	}
	at := func(dataCenter, account string) jumio.Workflow {
		return jumio.Workflow{DataCenter: dataCenter, AccountID: account, ID: "w"}
	}
	crowd := make([]results.Address, 8)
	for i := range crowd {
		crowd[i] = named("apac-1", fmt.Sprint("a", i))
	}
	for name, tc := range map[string]struct {
		believed results.Address
		said     []results.Address
		more     bool
		want     []jumio.Workflow
	}{
		"one that all callbacks name": {
			named("emea-1", "a"), []results.Address{named("emea-1", "a")}, false, []jumio.Workflow{at("emea-1", "")},
		},
		"callbacks that name different ones": {
			named("emea-1", "a"), []results.Address{named("amer-1", "b"), named("emea-1", "a")}, false, []jumio.Workflow{
				at("amer-1", "b"), at("emea-1", ""), at("amer-1", ""),
			},
		},
		"no data center": {
			results.Address{}, nil, false, []jumio.Workflow{at("amer-1", ""), at("emea-1", ""), at("apac-1", "")},
		},
		"a crowd in one data center leaves room for all": {
			named("apac-1", "a0"), crowd, true, []jumio.Workflow{
				at("apac-1", "a1"), at("apac-1", "a2"), at("apac-1", "a3"), at("apac-1", "a4"),
				at("amer-1", ""), at("emea-1", ""), at("apac-1", ""),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &attempt{worker: &worker{jumio: client}, claim: &results.Claim{}, lease: &results.Lease{Retrieval: workflow.Retrieval{WorkflowExecutionID: "w"}}}
			if d := cmp.Diff(tc.want, a.others(a.named(tc.believed), tc.said, tc.more)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
