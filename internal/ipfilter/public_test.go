package ipfilter

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const leftOut = "addresses in DNS are ignored: they are not public"

func TestPublic(t *testing.T) {
	for _, s := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.169.254", "172.16.0.1",
		"172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255",
		"198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:20::1", "2001:db8::1",
		"2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "4000::1",
	} {
		if public(addrs(s)[0]) {
			t.Errorf("%s counts as public", s)
		}
	}
	for _, list := range builtIn {
		for _, s := range slices.Concat(list, []string{"100.63.255.255", "100.128.0.1", "172.32.0.1", "198.20.0.1", "2600:1f18::1", "2a05:d018::1"}) {
			if !public(addrs(s)[0]) {
				t.Errorf("%s does not count as public", s)
			}
		}
	}
}

// Addresses in an answer that Jumio cannot call from are ignored, and the others are
// used; each set of ignored ones is logged once.
func TestAddressesThatAreNotPublicAreLeftOut(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, "10.0.0.1", oldV4, "127.0.0.1", "0.0.0.0", "192.168.1.1")
	server.set(dns.TypeAAAA, modeAnswer, oldV6, "fd00::1")
	f, _ := dnsFilter(t, server, nil)
	logs := observe(f)
	for range 2 {
		f.refresh(t.Context())
	}
	wantAllowed(t, f, oldV4, oldV6)
	outside := []string{"10.0.0.1", "127.0.0.1", "192.168.1.1", "fd00::1"}
	if diff := cmp.Diff([]string{}, allowed(f, outside...)); diff != "" {
		t.Errorf("allowed (-want +got):\n%s", diff)
	}
	if got := outcomes(f, outcomeOK); got != 2 {
		t.Errorf("outcome ok counted %v times, want 2", got)
	}
	lines := logs.FilterMessage(leftOut).All()
	if len(lines) != 1 {
		t.Fatalf("%d lines, want 1", len(lines))
	}
	want := []any{"0.0.0.0", "10.0.0.1", "127.0.0.1", "192.168.1.1", "fd00::1"}
	if diff := cmp.Diff(want, lines[0].ContextMap()["addresses"]); diff != "" {
		t.Errorf("logged addresses (-want +got):\n%s", diff)
	}

	server.set(dns.TypeAAAA, modeAnswer, oldV6)
	f.refresh(t.Context())
	if n := logs.FilterMessage(leftOut).Len(); n != 2 {
		t.Errorf("%d lines after a change, want 2", n)
	}
}

// An answer with only such addresses is a failed look-up: the last good answer stays
// in effect without end.
func TestAnswerWithoutPublicAddressesIsAFailure(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	server.set(dns.TypeAAAA, modeAnswer, oldV6)
	f, c := dnsFilter(t, server, nil)
	f.refresh(t.Context())

	server.set(dns.TypeA, modeAnswer, "127.0.0.1")
	server.set(dns.TypeAAAA, modeAnswer, "::1")
	for range 2 {
		c.advance(10 * grace)
		f.refresh(t.Context())
	}
	wantAllowed(t, f, oldV4, oldV6)
	if got := outcomes(f, outcomeNotPublic); got != 2 {
		t.Errorf("outcome not_public counted %v times, want 2", got)
	}

	// If only one family's answer is such, that family's addresses stay.
	server.set(dns.TypeA, modeAnswer, newV4)
	f.refresh(t.Context())
	c.advance(grace)
	wantAllowed(t, f, newV4, oldV6)
	if got := outcomes(f, outcomePartial); got != 1 {
		t.Errorf("outcome partial counted %v times, want 1", got)
	}
}

// What the operator allows anyway may also come from DNS.
func TestAllowedCIDRsMayComeFromDNS(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, "10.0.0.1")
	f, _ := dnsFilter(t, server, nil)
	f.cfg.AllowedCIDRs = prefixes(t, "10.0.0.0/24")
	f.refresh(t.Context())
	if got := outcomes(f, outcomeOK); got != 1 {
		t.Errorf("outcome ok counted %v times, want 1", got)
	}
}
