package processtest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Addresses of this machine, for the parties around a load balancer.
const (
	balancerAddress = "127.0.0.1" // from which it connects to callbackd
	allowedClient   = "127.0.0.3" // in CALLBACKD_ALLOWED_CIDRS
	otherClient     = "127.0.0.4"
)

const (
	// publicName is the host in the examples' certificates.
	publicName = "callbacks.example.com"
	// secretPath must not show in any log.
	secretPath = "/jumio/0d6c5b1f2a9e"
	// largestBody is CALLBACKD_MAX_BODY_BYTES, which the examples let through.
	largestBody = 1 << 20
)

// example is one of the files for load balancers in deploy.
type example struct {
	file string
	// start starts the program with what has been made of the file.
	start func(t *testing.T, b *balancer, config string)
	// replace are further texts of the file and what the test puts there.
	replace []string
	// proxyProtocol is the version that it speaks, 0 for X-Forwarded-For.
	proxyProtocol int
	// tcp: it does not look at HTTP.
	tcp bool
	// checks: it asks for /readyz by itself.
	checks bool
}

// Each file in deploy/nginx and deploy/haproxy is run by the real program, over
// TLS, as it stands apart from addresses, ports and paths.
func TestNginxForwardedFor(t *testing.T) {
	t.Parallel()
	nginxForwardedFor().test(t)
}

func TestNginxProxyProtocol(t *testing.T) {
	t.Parallel()
	nginxProxyProtocol().test(t)
}

func TestHAProxyForwardedFor(t *testing.T) {
	t.Parallel()
	haproxy("forwardfor.cfg", 0, false).test(t)
}

func TestHAProxyProxyProtocolV1(t *testing.T) {
	t.Parallel()
	haproxy("proxy-v1.cfg", 1, true).test(t)
}

func TestHAProxyProxyProtocolV2(t *testing.T) {
	t.Parallel()
	haproxy("proxy-v2.cfg", 2, false).test(t)
}

// nginxPlaces are the texts of a file for nginx that tests replace.
func nginxPlaces(more ...string) []string {
	return append([]string{"listen 443 ssl;", "listen ADDRESS ssl;", "/etc/nginx/" + publicName, "DIR/tls", "/var/log/nginx/", "DIR/"}, more...)
}

func nginxForwardedFor() example {
	return example{
		file: "nginx/callbackd.conf", replace: nginxPlaces("= "+callbackPath, "= "+secretPath),
		start: func(t *testing.T, b *balancer, config string) {
			b.startNginx(t, "", "http {\n"+config+"\nclient_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n}\n")
		},
	}
}

func nginxProxyProtocol() example {
	return example{
		file: "nginx/callbackd-stream.conf", replace: nginxPlaces(), proxyProtocol: 1, tcp: true,
		start: func(t *testing.T, b *balancer, config string) { b.startNginx(t, streamModule(t), config) },
	}
}

func haproxy(file string, proxyProtocol int, tcp bool) example {
	e := example{
		file: "haproxy/" + file, proxyProtocol: proxyProtocol, tcp: tcp, checks: true,
		replace: []string{
			"bind :443 ", "bind fd@3 ", "/etc/haproxy/" + publicName, "DIR/tls", "log /dev/log local0", "log stdout format raw local0",
			// These need root, and that user.
			"    user haproxy\n    group haproxy\n    chroot /var/lib/haproxy\n", "",
		},
		start: func(t *testing.T, b *balancer, config string) {
			path := filepath.Join(b.dir, "haproxy.cfg")
			write(t, path, config)
			b.process = start(t, nil, []*os.File{b.socket}, installed(t, "haproxy", "haproxy"), "-db", "-f", path)
			t.Cleanup(b.kill) // its exit code after a SIGTERM is not 0
		},
	}
	if !tcp {
		e.replace = append(e.replace, "path "+callbackPath, "path "+secretPath)
	}
	return e
}

// settings are those of an instance behind it.
func (e example) settings(dsn string, more ...string) []string {
	settings := append(receiving(dsn),
		"CALLBACKD_TRUSTED_PROXIES="+balancerAddress, "CALLBACKD_ALLOWED_CIDRS="+allowedClient,
		"CALLBACKD_CALLBACK_PATH="+secretPath,
		"CALLBACKD_SHUTDOWN_TIMEOUT=25s", // the default, which the examples reckon with
		"CALLBACKD_LOG_LEVEL=debug",
	)
	if e.proxyProtocol > 0 {
		settings = append(settings, "CALLBACKD_PROXY_PROTOCOL=true")
	}
	return append(settings, more...)
}

func (e example) test(t *testing.T) {
	dsn := migrated(t)
	db := open(t, dsn)
	a, b := serve(t, e.settings(dsn)), serve(t, e.settings(dsn))
	behind := startBalancer(t, e, address(a), address(b))
	behind.checkAddresses(db)
	behind.checkPaths()
	behind.checkSize(db)
	if e.checks {
		behind.checkHealth(a, b)
	}

	w := startWitness(t)
	besideWitness := startBalancer(t, e, w.address, address(b))
	besideWitness.checkWire(w)
	if !e.tcp {
		besideWitness.checkRetries(w)
	}

	behind.checkStop(a)
	b.kill()
	if answer, err := behind.post(allowedClient, ""); err == nil && answer.code < 500 {
		t.Errorf("without an instance: answered %d", answer.code)
	}
	if answer, err := behind.get("/readyz"); err == nil && answer.code < 500 {
		t.Errorf("/readyz without an instance: answered %d", answer.code)
	}
	for _, l := range []*balancer{behind, besideWitness} {
		if log := l.logs(); !strings.Contains(log, allowedClient) || strings.Contains(log, "0d6c5b1f2a9e") {
			t.Errorf("the log lacks the client's address or has the path:\n%s", tail(log))
		}
	}
}

func address(i *instance) string { return strings.TrimPrefix(i.callback, "http://") }

// balancer is a running load balancer.
type balancer struct {
	*process
	t      *testing.T
	e      example
	dir    string
	socket *os.File
	// address is where it listens.
	address string
	roots   *x509.CertPool
}

// startBalancer starts the example's program before two receivers.
func startBalancer(t *testing.T, e example, first, second string) *balancer {
	t.Helper()
	haveAddresses(t)
	b := &balancer{t: t, e: e, dir: t.TempDir()}
	b.socket, b.address = listen(t)
	b.roots = certificate(t, filepath.Join(b.dir, "tls"))
	text, err := os.ReadFile(filepath.Join("../../deploy", e.file))
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	places := append([]string{"10.0.0.11:8080", first, "10.0.0.12:8080", second}, e.replace...)
	values := strings.NewReplacer("DIR", b.dir, "ADDRESS", b.address)
	for i := 0; i < len(places); i += 2 {
		if !strings.Contains(config, places[i]) {
			t.Fatalf("%s does not contain %q", e.file, places[i])
		}
		config = strings.ReplaceAll(config, places[i], values.Replace(places[i+1]))
	}
	e.start(t, b, config)
	return b
}

// startNginx runs nginx in the foreground.
func (b *balancer) startNginx(t *testing.T, module, config string) {
	t.Helper()
	path := filepath.Join(b.dir, "nginx.conf")
	write(t, path, module+"daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr notice;\nevents {}\n"+config)
	// The variable NGINX hands listening sockets from an nginx to its successor:
	// here it makes file 3 the socket that is configured.
	b.process = start(t, []string{"NGINX=3;"}, []*os.File{b.socket}, installed(t, "nginx", "nginx-light"), "-e", "stderr", "-p", b.dir, "-c", path)
}

// streamModule is the line that loads nginx' stream module, empty where it is
// built in.
func streamModule(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(installed(t, "nginx", "nginx-light"), "-V").CombinedOutput()
	if err != nil {
		t.Fatalf("nginx -V: %v", err)
	}
	dirs := []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules"}
	for _, argument := range strings.Fields(string(out)) {
		if argument == "--with-stream" {
			return ""
		}
		if dir, ok := strings.CutPrefix(argument, "--modules-path="); ok {
			dirs = append([]string{dir}, dirs...)
		}
	}
	for _, dir := range dirs {
		module := filepath.Join(dir, "ngx_stream_module.so")
		if _, err := os.Stat(module); err == nil {
			return "load_module " + module + ";\n"
		}
	}
	t.Fatalf("nginx has no stream module in %v: run sudo apt-get install libnginx-mod-stream", dirs)
	return ""
}

// logs are all that it has written.
func (b *balancer) logs() string {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "*.log"))
	if err != nil {
		b.t.Fatal(err)
	}
	text := b.stdout.String() + b.stderr.String()
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			b.t.Fatal(err)
		}
		text += string(content)
	}
	return text
}

// client calls from an address of this machine, over TLS.
func (b *balancer) client(from string) *http.Client {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, b.address)
		},
		TLSClientConfig:       b.tls(),
		DisableKeepAlives:     true,
		ExpectContinueTimeout: patience,
	}}
}

func (b *balancer) tls() *tls.Config {
	return &tls.Config{RootCAs: b.roots, ServerName: publicName, MinVersion: tls.VersionTLS12}
}

// post sends a callback from an address, with the client address header as the
// client would like it.
func (b *balancer) post(from, spoofed string) (*answer, error) {
	return b.postBody(from, spoofed, processed("balanced"))
}

func (b *balancer) postBody(from, spoofed, body string) (*answer, error) {
	if !b.running() {
		return nil, errors.New("the load balancer has ended")
	}
	r, err := http.NewRequest(http.MethodPost, "https://"+publicName+secretPath, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if spoofed != "" {
		r.Header.Set("X-Forwarded-For", spoofed)
	}
	if len(body) > largestBody {
		// An answer may be lost when the server hangs up while the body is still being sent.
		r.Header.Set("Expect", "100-continue")
	}
	return do(b.client(from), r)
}

// wantPosted: a callback of the allowed client is stored.
func (b *balancer) wantPosted(when string) {
	b.t.Helper()
	a, err := b.post(allowedClient, "")
	if err != nil {
		b.t.Fatalf("%s: %v", when, err)
	}
	if a.code != http.StatusOK {
		b.t.Fatalf("%s: answered %d %s", when, a.code, a.body)
	}
}

// checkAddresses: the caller's address decides, whatever headers it sends.
func (b *balancer) checkAddresses(db *database) {
	t := b.t
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
		"other that claims a chain":         {otherClient, allowedClient + ", " + balancerAddress, http.StatusForbidden},
		"allowed that claims to be another": {allowedClient, foreignAddress, http.StatusOK},
		"allowed that claims nonsense":      {allowedClient, "unknown", http.StatusOK},
	} {
		a, err := b.post(test.from, test.spoofed)
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

	// A PROXY header from the caller itself is a broken request.
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(otherClient)}}, Config: b.tls()}).DialContext(t.Context(), "tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := processed("forged")
	_, err = fmt.Fprintf(conn, "%sPOST %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		proxyV1(jumioAddress), secretPath, publicName, len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("a PROXY header of the caller's own: %v", err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("a PROXY header of the caller's own: answered %d, want 400", response.StatusCode)
	}

	// Connections to callbackd are not shared by different callers.
	callers := map[string]*http.Client{allowedClient: b.client(allowedClient), otherClient: b.client(otherClient)}
	for range 10 {
		for from, c := range callers {
			c.Transport.(*http.Transport).DisableKeepAlives = false
			a, err := postBy(c, "https://"+publicName+secretPath, "", "application/json", processed("alternating"))
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string]int{allowedClient: http.StatusOK, otherClient: http.StatusForbidden}[from]; a.code != want {
				t.Errorf("%s in turn with another: answered %d, want %d", from, a.code, want)
			}
		}
	}
	for _, c := range callers {
		c.CloseIdleConnections()
	}
}

// checkPaths: from outside, anybody can ask whether a callback would be stored. A
// balancer that looks at HTTP passes on nothing else but callbacks.
func (b *balancer) checkPaths() {
	b.t.Helper()
	healthz := http.StatusNotFound
	if b.e.tcp {
		healthz = http.StatusOK
	}
	for path, want := range map[string]int{
		secretPath: http.StatusMethodNotAllowed, "/readyz": http.StatusOK, "/healthz": healthz,
		"/metrics": http.StatusNotFound, "/": http.StatusNotFound, secretPath + "/": http.StatusNotFound,
	} {
		a, err := b.get(path)
		if err != nil {
			b.t.Fatalf("GET %s: %v", path, err)
		}
		passed := a.header.Get("X-Request-Id") != ""
		if a.code != want || passed != (b.e.tcp || want != http.StatusNotFound) {
			b.t.Errorf("GET %s: answered %d, want %d (passed on: %t)", path, a.code, want, passed)
		}
		if path == "/readyz" && a.body != "ready\n" {
			b.t.Errorf("GET %s: answered %q, want no details", path, a.body)
		}
	}
}

func (b *balancer) get(path string) (*answer, error) {
	r, err := http.NewRequest(http.MethodGet, "https://"+publicName+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	return do(b.client(otherClient), r)
}

// checkSize: bodies up to the limit come through, larger ones get 413.
func (b *balancer) checkSize(db *database) {
	b.t.Helper()
	body := processed("large")
	body += strings.Repeat(" ", largestBody-len(body))
	for size, want := range map[string]int{body: http.StatusOK, body + " ": http.StatusRequestEntityTooLarge, strings.Repeat(body, 4): http.StatusRequestEntityTooLarge} {
		a, err := b.postBody(allowedClient, "", size)
		if err != nil {
			b.t.Fatalf("%d bytes: %v", len(size), err)
		}
		if a.code != want {
			b.t.Errorf("%d bytes: answered %d, want %d", len(size), a.code, want)
		}
	}
	if n := db.count(`SELECT count(*) FROM jumio.callbacks WHERE workflow_execution_id = 'large' AND octet_length(body) = $1`, largestBody); n != 1 {
		b.t.Errorf("%d large callbacks are stored, want 1", n)
	}
}

// checkHealth: the balancer's checks are answered and succeed.
func (b *balancer) checkHealth(instances ...*instance) {
	b.t.Helper()
	for _, i := range instances {
		eventually(b.t, patience, func() error {
			if n := strings.Count(i.stderr.String(), `"msg":"request","status":200`); n < 3 {
				return fmt.Errorf("%d health checks were answered 200", n)
			}
			return nil
		})
	}
	// On a busy machine checks may run out of time.
	eventually(b.t, patience, func() error {
		if log := b.logs(); strings.Count(log, " is DOWN") != strings.Count(log, " is UP") {
			return fmt.Errorf("an instance is out of rotation:\n%s", tail(log))
		}
		return nil
	})
}

// outByReadiness is HAProxy's line when /readyz no longer answers 200.
var outByReadiness = regexp.MustCompile(`server callbackd/a failed, reason: Layer7 wrong status, code: 503.* status: 0/\d+ DOWN`)

// checkStop: an instance is stopped, and no callback is rejected. A balancer with
// checks takes it out of rotation while it still receives.
func (b *balancer) checkStop(i *instance) {
	b.t.Helper()
	i.signal(syscall.SIGTERM)
	stored, broken := 0, 0
	eventually(b.t, patience, func() error {
		a, err := b.post(allowedClient, "")
		switch {
		case err != nil:
			broken++
		case a.code != http.StatusOK:
			b.t.Fatalf("while an instance stops: answered %d %s", a.code, a.body)
		default:
			stored++
		}
		if i.running() {
			return errors.New("the instance has not stopped")
		}
		return nil
	})
	allowed := 0
	if b.e.tcp && !b.e.checks {
		// Connections that its socket had accepted, but not the instance.
		allowed = 1
	}
	if broken > allowed || stored < 10 {
		b.t.Errorf("during the stop %d callbacks were stored and %d broken off", stored, broken)
	}
	if log := b.logs(); b.e.checks && !outByReadiness.MatchString(log) {
		b.t.Errorf("not out of rotation because it is not ready:\n%s", tail(log))
	}
	for range 10 {
		b.wantPosted("with one instance")
	}
}

// checkWire: what a receiver sees.
func (b *balancer) checkWire(w *witness) {
	b.t.Helper()
	w.behave(answer200)
	eventually(b.t, patience, func() error {
		b.wantPosted("beside a witness")
		if len(w.calls(http.MethodPost)) == 0 {
			return errors.New("the witness has got no callback")
		}
		return nil
	})
	got := w.calls(http.MethodPost)[0]
	want := call{method: http.MethodPost, version: b.e.proxyProtocol, source: allowedClient}
	if b.e.proxyProtocol == 0 {
		want.source, want.forwarded = "", allowedClient
	}
	if got != want {
		b.t.Errorf("on the wire is %+v, want %+v", got, want)
	}
	if !b.e.checks {
		return
	}
	eventually(b.t, patience, func() error {
		if len(w.calls(http.MethodGet)) == 0 {
			return errors.New("no health check")
		}
		return nil
	})
	if got := w.calls(http.MethodGet)[0]; got.version != b.e.proxyProtocol {
		b.t.Errorf("a health check is %+v", got)
	}
}

// checkRetries: where one instance does not store, the other one is asked, and
// when neither could, both are asked again by the next callback.
func (b *balancer) checkRetries(w *witness) {
	b.t.Helper()
	for name, behaviour := range map[string]behaviour{"503": answer503, "a broken connection": hangUp} {
		w.behave(behaviour)
		eventually(b.t, patience, func() error {
			b.wantPosted("beside an instance with " + name)
			if len(w.calls(http.MethodPost)) < 3 {
				return errors.New("the witness has got few callbacks")
			}
			return nil
		})
	}
	other := startWitness(b.t)
	both := startBalancer(b.t, b.e, w.address, other.address)
	for range 3 {
		w.behave(answer503)
		other.behave(answer503)
		a, err := both.post(allowedClient, "")
		if err != nil || a.code != http.StatusServiceUnavailable || len(w.calls(http.MethodPost))*len(other.calls(http.MethodPost)) == 0 {
			b.t.Fatalf("with two that cannot store: %+v, %v", a, err)
		}
		w.behave(answer200)
		other.behave(answer200)
		both.wantPosted("with two that can store again")
	}
}

// certificate makes one for publicName that vouches for itself, as stem.crt,
// stem.key, and both in stem.pem.
func certificate(t *testing.T, stem string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{publicName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pkcs8 := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	write(t, stem+".crt", string(crt))
	write(t, stem+".key", string(pkcs8))
	write(t, stem+".pem", string(crt)+string(pkcs8))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(crt)
	return roots
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

// haveAddresses makes sure that this machine has the addresses.
func haveAddresses(t *testing.T) {
	t.Helper()
	for _, address := range []string{balancerAddress, allowedClient, otherClient} {
		l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatalf("this machine has no address %[1]s (%[2]v): on macOS run sudo ifconfig lo0 alias %[1]s", address, err)
		}
		_ = l.Close()
	}
}

// installed finds a load balancer's program, even outside an ordinary user's PATH.
func installed(t *testing.T, name, debianPackage string) string {
	t.Helper()
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
