package ipfilter

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// How the test's name server answers one type of question.
const (
	modeAnswer    = iota // the addresses, or none: an empty answer
	modeNXDOMAIN         //
	modeSERVFAIL         //
	modeREFUSED          //
	modeDrop             // never
	modeTruncated        // only over TCP
)

// nameServer is a real name server on loopback, UDP and TCP, for any name.
type nameServer struct {
	addr string

	mu      sync.Mutex
	modes   map[uint16]int
	records map[uint16][]netip.Addr
	asked   map[string]int // by name and type, as in "a.test. A"
	overTCP int
	hold    chan struct{} // when set, answers wait until it is closed
}

func startNameServer(t testing.TB) *nameServer {
	t.Helper()
	s := &nameServer{
		modes:   make(map[uint16]int),
		records: make(map[uint16][]netip.Addr),
		asked:   make(map[string]int),
	}
	udp, tcp := listenBoth(t)
	s.addr = udp.LocalAddr().String()
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: s}, {Listener: tcp, Handler: s}} {
		started, done := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { done <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			_ = server.Shutdown()
			if err := <-done; err != nil {
				t.Errorf("name server: %v", err)
			}
		})
	}
	return s
}

// listenBoth finds a port that is free for UDP and for TCP.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	var err error
	for range 20 {
		var udp net.PacketConn
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			break
		}
		var tcp net.Listener
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		_ = udp.Close()
	}
	t.Fatal(err)
	return nil, nil
}

// set changes the answers to one type of question.
func (s *nameServer) set(qtype uint16, mode int, list ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.modes[qtype] = mode
	s.records[qtype] = addrs(list...)
}

func (s *nameServer) count(question string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[question]
}

// holdAnswers lets questions in and no answer out until the returned function is
// called.
func (s *nameServer) holdAnswers() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hold := make(chan struct{})
	s.hold = hold
	return sync.OnceFunc(func() { close(hold) })
}

func (s *nameServer) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	q := query.Question[0]
	tcp := w.RemoteAddr().Network() == "tcp"
	s.mu.Lock()
	s.asked[q.Name+" "+dns.TypeToString[q.Qtype]]++
	mode, records, hold := s.modes[q.Qtype], slices.Clone(s.records[q.Qtype]), s.hold
	if tcp {
		s.overTCP++
	}
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}

	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	switch mode {
	case modeDrop:
		return
	case modeNXDOMAIN:
		reply.Rcode = dns.RcodeNameError
	case modeSERVFAIL:
		reply.Rcode = dns.RcodeServerFailure
	case modeREFUSED:
		reply.Rcode = dns.RcodeRefused
	case modeTruncated:
		reply.Truncated = !tcp
	}
	if (mode == modeAnswer || mode == modeTruncated) && !reply.Truncated {
		for _, addr := range records {
			header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 60}
			if q.Qtype == dns.TypeA {
				reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: addr.AsSlice()})
			} else {
				reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: addr.AsSlice()})
			}
		}
	}
	_ = w.WriteMsg(reply)
}
