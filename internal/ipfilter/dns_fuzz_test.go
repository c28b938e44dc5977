package ipfilter

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// rawNameServer is a real name server on loopback that answers every question
// with prepared bytes, as far as the question's id lets them pass for an answer.
// Over UDP it then sends REFUSED, so that the resolver does not wait if the bytes are
// no answer at all.
type rawNameServer struct {
	addr  string
	reply atomic.Pointer[func(query []byte) []byte]
}

func startRawNameServer(t testing.TB) *rawNameServer {
	t.Helper()
	udp, tcp := listenBoth(t)
	s := &rawNameServer{addr: udp.LocalAddr().String()}
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		buffer := make([]byte, 64<<10)
		for {
			n, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo((*s.reply.Load())(buffer[:n]), from)
			_, _ = udp.WriteTo(refusal(buffer[:n]), from)
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			s.answerOnce(conn)
		}
	}()
	t.Cleanup(func() {
		_ = udp.Close()
		_ = tcp.Close()
		<-done
		<-done
	})
	return s
}

func (s *rawNameServer) answerOnce(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, query); err != nil {
		return
	}
	reply := (*s.reply.Load())(query)
	_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
}

func refusal(query []byte) []byte {
	m := new(dns.Msg)
	if m.Unpack(query) != nil {
		return nil
	}
	reply, _ := new(dns.Msg).SetRcode(m, dns.RcodeRefused).Pack()
	return reply
}

// dnsReply puts data behind the question's id, or, with a header, behind the
// question and a header with those flags and that number of answers.
func dnsReply(query, data []byte, withHeader bool, flags, answers uint16) []byte {
	if len(query) < 12 {
		return nil
	}
	if !withHeader {
		return append(slices.Clone(query[:2]), data...)
	}
	m := new(dns.Msg)
	if m.Unpack(query) != nil {
		return nil
	}
	m.Extra = nil // EDNS
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	binary.BigEndian.PutUint16(reply[2:], flags)
	binary.BigEndian.PutUint16(reply[6:], answers)
	return append(reply, data...)
}

// Whatever a name server sends, a look-up ends, every address is in the answer as a
// record of the type that was asked for, and there are addresses if and only if the
// outcome is ok.
func FuzzDNSAnswer(f *testing.F) {
	const (
		response  = 0x8180
		truncated = 0x8380
		nxdomain  = 0x8183
		servfail  = 0x8182
		// The owner's name is a pointer to the question; class IN, TTL 60.
		a    = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x22\xca\xf1\xe3"
		aaaa = "\xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07"
		// IPv4-mapped, the unspecified address.
		mapped = "\xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x22\xca\xf1\xe3"
		zero   = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x00\x00\x00\x00"
		// An alias to x.test, a record of another name, another class.
		cname  = "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x08\x01x\x04test\x00"
		other  = "\x01x\x04test\x00\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x22\xca\xf1\xe3"
		chaos  = "\xc0\x0c\x00\x01\x00\x03\x00\x00\x00\x3c\x00\x04\x22\xca\xf1\xe3"
		short  = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x03\x22\xca\xf1"
		looped = "\xc0\x1a\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x22\xca\xf1\xe3"
	)
	for _, seed := range []struct {
		data           string
		flags, answers uint16
	}{
		{"", response, 0},
		{a, response, 1},
		{a + a + zero, response, 3},
		{aaaa, response, 1},
		{mapped, response, 1},
		{a + aaaa, response, 2},
		{cname + other, response, 2},
		{other, response, 1},
		{chaos, response, 1},
		{short, response, 1},
		{looped, response, 1},
		{a, response, 2},
		{a, response, 65535},
		{a, truncated, 1},
		{a, nxdomain, 1},
		{"", nxdomain, 0},
		{a, servfail, 1},
		{a, 0, 1},
		{a + "trailing", response, 1},
	} {
		f.Add([]byte(seed.data), true, seed.flags, seed.answers)
		f.Add([]byte(seed.data), false, seed.flags, seed.answers)
	}
	server := startRawNameServer(f)
	filter, _ := newFilter(f, Config{DNSServer: server.addr}, nil)
	f.Fuzz(func(t *testing.T, data []byte, withHeader bool, flags, answers uint16) {
		if len(data) > 4096 {
			return // as much as any message holds over UDP
		}
		var last atomic.Pointer[[]byte]
		reply := func(query []byte) []byte {
			b := dnsReply(query, data, withHeader, flags, answers)
			last.Store(&b)
			return b
		}
		server.reply.Store(&reply)
		for _, network := range []string{"ip4", "ip6"} {
			// A second is long on loopback; then the look-up must end.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			l := filter.lookUp(ctx, network, "a.test")
			cancel()
			if (l.outcome == outcomeOK) != (len(l.addrs) > 0) || (l.err == nil) != (l.outcome == outcomeOK) {
				t.Errorf("outcome %s with %d addresses and error %v", l.outcome, len(l.addrs), l.err)
			}
			var sent []byte
			if b := last.Load(); b != nil {
				sent = *b
			}
			if len(l.addrs)*15 > len(sent) { // a record with an address has no fewer bytes
				t.Errorf("%d addresses from %d bytes", len(l.addrs), len(sent))
			}
			for _, addr := range l.addrs {
				if addr != plain(addr) || !standsIn(sent, addr, network) {
					t.Errorf("%s gave %v, which the answer %x does not hold", network, addr, sent)
				}
			}
		}
	})
}

// standsIn searches the answer for the address as a record's data: type, class,
// TTL and length before it (RFC 1035, section 3.2.1). The resolver does not look
// at the length.
func standsIn(reply []byte, addr netip.Addr, network string) bool {
	qtype, data := dns.TypeA, addr.AsSlice()
	if network == "ip6" {
		as16 := addr.As16()
		qtype, data = dns.TypeAAAA, as16[:]
	}
	for i := 12; i+10+len(data) <= len(reply); i++ {
		if binary.BigEndian.Uint16(reply[i:]) == qtype && bytes.Equal(reply[i+10:i+10+len(data)], data) {
			return true
		}
	}
	return false
}
