package ipfilter_test

import (
	"fmt"
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/ipfilter"
)

// Behind a load balancer, the client is the rightmost address in X-Forwarded-For
// that is not a trusted proxy, whatever a caller has put to the left of it.
func ExampleFilter_Check() {
	f, err := ipfilter.New(ipfilter.Config{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		JumioIPs:       []string{"us", "eu", "sg"},
	}, nil, zap.NewNop(), ipfilter.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		panic(err)
	}
	for _, call := range []struct{ peer, header string }{
		{"10.0.0.1:4711", "34.202.241.227"},
		{"10.0.0.1:4711", "34.202.241.227, 203.0.113.66"},
		{"203.0.113.66:4711", "34.202.241.227"},
		{"10.0.0.1:4711", "unknown"},
	} {
		d := f.Check(&http.Request{RemoteAddr: call.peer, Header: http.Header{"X-Forwarded-For": {call.header}}})
		fmt.Printf("%s %t %q\n", d.Addr, d.Allowed, d.Reason)
	}
	// Output:
	// 34.202.241.227 true ""
	// 203.0.113.66 false "address_not_allowed"
	// 203.0.113.66 false "address_not_allowed"
	// invalid IP false "no_client_address"
}
