package processtest

import (
	"fmt"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// brokenNetwork is a connection between callbackd and a server that can be cut,
// slow or half-open.
type brokenNetwork struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

// startNetwork opens a proxy to the server's address.
func startNetwork(t *testing.T, to string) *brokenNetwork {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // some of the library's parts have no logger of their own
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &brokenNetwork{t, toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", to)}
	if err := n.proxy.Start(); err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	t.Cleanup(n.proxy.Stop)
	return n
}

// address is what callbackd connects to instead of the server's own address.
func (n *brokenNetwork) address() string { return n.proxy.Listen }

// cut ends all connections, and accepts no new ones.
func (n *brokenNetwork) cut() { n.proxy.Stop() }

// slow delays the server's data and limits its rate.
func (n *brokenNetwork) slow() {
	n.add("latency", "downstream", `{"latency": 300, "jitter": 100}`)
	n.add("bandwidth", "downstream", `{"rate": 200}`)
}

// halfOpen drops all data in both directions. Connections stay, and new ones are
// accepted.
func (n *brokenNetwork) halfOpen() {
	n.add("timeout", "downstream", `{"timeout": 0}`)
	n.add("timeout", "upstream", `{"timeout": 0}`)
}

func (n *brokenNetwork) add(kind, direction, attributes string) {
	n.t.Helper()
	_, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": %s}`, kind, direction, attributes)))
	if err != nil {
		n.t.Fatalf("break the network: %v", err)
	}
}

// repair ends what cut, slow and halfOpen did.
func (n *brokenNetwork) repair() {
	n.t.Helper()
	n.proxy.Toxics.ResetToxics(n.t.Context())
	if n.proxy.Enabled {
		return
	}
	// Somebody's outgoing connection may have got the port meanwhile.
	eventually(n.t, patience, n.proxy.Start)
}
