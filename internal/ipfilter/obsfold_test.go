package ipfilter

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// serveDecisions answers on a real socket with the client address and why it is
// rejected; this machine is a trusted proxy.
func serveDecisions(t *testing.T, header string) (address string) {
	t.Helper()
	f, _ := newFilter(t, Config{ClientIPHeader: header, TrustedProxies: prefixes(t, "127.0.0.0/8", "10.0.0.0/8"), JumioIPs: []string{"us"}}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := f.Check(r)
		_, _ = io.WriteString(w, d.Addr.String()+" "+d.Reason)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return l.Addr().String()
}

// net/http joins a folded line (RFC 9112, section 5.2) with a space. A proxy may take
// it for two lines, and append the client to the first or put its own before the
// second: the caller's second line must not be read as the proxy's.
func TestFoldedHeaderForgesNoAddress(t *testing.T) {
	const (
		client = "203.0.113.66"
		no     = "invalid IP " + ReasonNoAddress
		itself = client + " " + ReasonNotAllowed
	)
	folds := []string{"\r\n ", "\r\n\t", "\n ", "\r\n \t ", "\r\n \r\n ", "\r\n ,\r\n "}
	for header, tt := range map[string]struct {
		appended []string // what the proxy makes of what the caller sent
		folded   []string // what the caller wrote behind the fold
	}{
		"X-Forwarded-For": {
			[]string{client, jumio + ", " + client, jumio + "," + client, `", ` + client, ", " + client, client + ", 10.0.0.2"},
			[]string{
				jumio, "," + jumio, ", " + jumio, "x, " + jumio, "x," + jumio + ", 10.0.0.2", "\t," + jumio,
				`", ` + jumio, ",," + jumio, "10.0.0.2, " + jumio, ":80, " + jumio, "," + jumio + ":80",
			},
		},
		"Forwarded": {
			[]string{
				"for=" + client, "for=" + jumio + ", for=" + client, `for=` + client + `;host="a"`, `for="` + client + `:80"`,
				`x=", for=` + client + `;host="a"`, `x="\", for=` + client, `for="_x, for=` + client + `;host="a"`,
			},
			[]string{
				"for=" + jumio, ",for=" + jumio, ", for=" + jumio, ";x=y, for=" + jumio, ";x=y,for=" + jumio, `;x=", for=` + jumio,
				`;x=",for=` + jumio, `", for=` + jumio, `",for=` + jumio + `;x="`, ";for=" + jumio, `\", for=` + jumio,
			},
		},
		"X-Real-IP": {
			[]string{client},
			[]string{jumio, "," + jumio, ", " + jumio, "x, " + jumio},
		},
	} {
		t.Run(header, func(t *testing.T) {
			address := serveDecisions(t, header)
			ask := func(lines string) string {
				return answer(t, dial(t, address, "GET / HTTP/1.1\r\nHost: a\r\n"+lines+"\r\nConnection: close\r\n\r\n"))
			}
			for _, appended := range tt.appended {
				if got := ask(header + ": " + appended); got != itself {
					t.Errorf("%q: got %q, want %q", appended, got, itself)
				}
				for _, fold := range folds {
					for _, folded := range tt.folded {
						lines := header + ": " + appended + fold + folded
						if got := ask(lines); got != no {
							t.Errorf("%q: got %q, want %q", lines, got, no)
						}
						lines += "\r\n" + header + ": " + tt.appended[0]
						if got := ask(lines); got != no && got != itself {
							t.Errorf("%q: got %q, want %q or %q", lines, got, no, itself)
						}
					}
				}
			}
			for _, broken := range []string{header + "\r\n : " + tt.folded[0], header + " : " + tt.folded[0], header + ":\r\n\r " + tt.folded[0]} {
				if got := ask(broken); !strings.HasPrefix(got, "400") {
					t.Errorf("%q: got %q, want a 400", broken, got)
				}
			}
		})
	}
}
