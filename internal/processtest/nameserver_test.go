package processtest

import (
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// dnsAddress is known from DNS only. It is public, because others are ignored
// there.
const dnsAddress = "34.192.0.7"

// nameServer is a real name server on loopback that knows one IPv4 address for
// every name.
type nameServer struct {
	t       testing.TB
	address string
	server  *dns.Server
	done    chan error
}

func startNameServer(t testing.TB, address string) *nameServer {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &nameServer{t: t, address: socket.LocalAddr().String(), done: make(chan error, 1)}
	s.server = &dns.Server{
		PacketConn: socket, NotifyStartedFunc: func() { close(started) },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
			reply := new(dns.Msg).SetReply(query)
			reply.RecursionAvailable = true
			if q := query.Question[0]; q.Qtype == dns.TypeA {
				header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 60}
				reply.Answer = []dns.RR{&dns.A{Hdr: header, A: netip.MustParseAddr(address).AsSlice()}}
			}
			_ = w.WriteMsg(reply) // a client that is gone needs no answer
		}),
	}
	go func() { s.done <- s.server.ActivateAndServe() }()
	<-started
	t.Cleanup(s.stop)
	return s
}

// stop ends the server: queries get no answer. Further calls do nothing.
func (s *nameServer) stop() {
	if s.server.Shutdown() != nil {
		return // it has been stopped
	}
	if err := <-s.done; err != nil {
		s.t.Errorf("name server: %v", err)
	}
}
