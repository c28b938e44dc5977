package processtest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Addresses of this machine that play the parties around a load balancer.
const (
	balancerAddress = "127.0.0.2" // from which it connects to callbackd; trusted
	allowedClient   = "127.0.0.3" // in CALLBACKD_ALLOWED_CIDRS
	otherClient     = "127.0.0.4"
)

// behindBalancer are the settings of an instance behind a load balancer.
func behindBalancer(dsn string) []string {
	return append(receiving(dsn), "CALLBACKD_TRUSTED_PROXIES="+balancerAddress, "CALLBACKD_ALLOWED_CIDRS="+allowedClient)
}

// TestNginx: the X-Forwarded-For that nginx makes with
// $proxy_add_x_forwarded_for.
func TestNginx(t *testing.T) {
	t.Parallel()
	path := installed(t, "nginx", "nginx-light")
	dsn := migrated(t)
	s := serve(t, behindBalancer(dsn))
	socket, address := listen(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	write(t, conf, fmt.Sprintf(`
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr notice;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen %s;
        location / {
            proxy_pass %s;
            proxy_bind %s;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }
}
`, address, s.callback, balancerAddress))
	// The variable NGINX hands listening sockets from an nginx to its successor:
	// here it makes file 3 the socket that is configured.
	start(t, []string{"NGINX=3;"}, []*os.File{socket}, path, "-e", "stderr", "-p", dir, "-c", conf)
	checkBalancer(t, open(t, dsn), "http://"+address+s.path)
}

// TestHAProxy: X-Forwarded-For by `option forwardfor`, a header line of its
// own, and the PROXY protocol by send-proxy and send-proxy-v2.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	path := installed(t, "haproxy", "haproxy")
	dsn := migrated(t)
	byHeader := serve(t, behindBalancer(dsn))
	byProxyProtocol := serve(t, append(behindBalancer(dsn), "CALLBACKD_PROXY_PROTOCOL=true"))
	headerSocket, headerAddress := listen(t)
	v1Socket, v1Address := listen(t)
	v2Socket, v2Address := listen(t)
	conf := filepath.Join(t.TempDir(), "haproxy.cfg")
	const sections = `
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s

listen forwardfor
    mode http
    bind fd@3
    option forwardfor
    server callbackd %[2]s source %[1]s

listen send-proxy
    mode tcp
    bind fd@4
    server callbackd %[3]s source %[1]s send-proxy

listen send-proxy-v2
    mode tcp
    bind fd@5
    server callbackd %[3]s source %[1]s send-proxy-v2
`
	write(t, conf, fmt.Sprintf(sections, balancerAddress, strings.TrimPrefix(byHeader.callback, "http://"), strings.TrimPrefix(byProxyProtocol.callback, "http://")))
	haproxy := start(t, nil, []*os.File{headerSocket, v1Socket, v2Socket}, path, "-db", "-f", conf)
	t.Cleanup(haproxy.kill) // its exit code after a SIGTERM is not 0
	for name, address := range map[string]string{"option forwardfor": headerAddress, "send-proxy": v1Address, "send-proxy-v2": v2Address} {
		t.Run(name, func(t *testing.T) {
			checkBalancer(t, open(t, dsn), "http://"+address+callbackPath)
		})
	}
}

// checkBalancer: who calls decides, whatever the caller says of itself.
func checkBalancer(t *testing.T, db *database, url string) {
	t.Helper()
	for name, test := range map[string]struct {
		from, spoofed string
		code          int
	}{
		"allowed":                           {allowedClient, "", http.StatusOK},
		"other":                             {otherClient, "", http.StatusForbidden},
		"other that claims to be Jumio":     {otherClient, jumioAddress, http.StatusForbidden},
		"other that claims to be allowed":   {otherClient, allowedClient, http.StatusForbidden},
		"other that claims to be the proxy": {otherClient, balancerAddress, http.StatusForbidden},
		"allowed that claims to be another": {allowedClient, foreignAddress, http.StatusOK},
	} {
		r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(processed("balanced")))
		if err != nil {
			t.Fatal(err)
		}
		if test.spoofed != "" {
			r.Header.Set("X-Forwarded-For", test.spoofed)
		}
		a, err := do(clientAt(test.from), r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if a.code != test.code {
			t.Errorf("%s: answered %d, want %d", name, a.code, test.code)
		}
		from := db.texts(`SELECT host(source_ip) FROM jumio.callbacks WHERE callback_id::text = $1
			UNION ALL SELECT host(source_ip) FROM jumio.rejected_callbacks WHERE rejected_id::text = $1`, a.header.Get("X-Request-Id"))
		if len(from) != 1 || from[0] != test.from {
			t.Errorf("%s: source_ip is %q, want %s", name, from, test.from)
		}
	}
}

// clientAt connects from the given address.
func clientAt(address string) *http.Client {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}, Timeout: patience}
}

// listen binds a free port, to be handed to a load balancer: connections wait
// until it accepts them.
func listen(t *testing.T) (socket *os.File, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	socket, err = l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return socket, l.Addr().String()
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// installed finds a load balancer's program, also where the PATH of an ordinary
// user does not lead, and makes sure that this machine has the addresses.
func installed(t *testing.T, name, debianPackage string) string {
	t.Helper()
	for _, address := range []string{balancerAddress, allowedClient, otherClient} {
		l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatalf("this machine has no address %[1]s (%[2]v): on macOS run sudo ifconfig lo0 alias %[1]s", address, err)
		}
		_ = l.Close()
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Fatalf("%[1]s is not installed: run sudo apt-get install %[2]s, or brew install %[1]s", name, debianPackage)
	return ""
}
