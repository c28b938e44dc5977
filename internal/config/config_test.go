package config

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// complete is the least environment that serve accepts.
var complete = []string{
	"DATABASE_URL=postgres://app:hunter2@db.example/callbackd",
	"JUMIO_CLIENT_ID=client",
	"JUMIO_CLIENT_SECRET=hunter3",
	"JUMIO_USER_AGENT=Acme Onboarding/v1.0",
}

// with returns complete with further assignments; later ones win.
func with(assignments ...string) []string {
	return append(append([]string{"PATH=/usr/bin"}, complete...), assignments...)
}

// lines returns the error lines of Load.
func lines(t *testing.T, environ []string) []string {
	t.Helper()
	c, err := Load(environ)
	if err == nil {
		return nil
	}
	if c != nil {
		t.Error("Load returned both a Config and an error")
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("Load's error is a %T, want *Error", err)
	}
	if err.Error() != strings.Join(e.Lines, "\n") {
		t.Errorf("error text %q is not its lines %q", err, e.Lines)
	}
	return e.Lines
}

func prefixes(texts ...string) []netip.Prefix {
	all := []netip.Prefix{}
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func seconds(counts ...int) []time.Duration {
	var all []time.Duration
	for _, n := range counts {
		all = append(all, time.Duration(n)*time.Second)
	}
	return all
}

var compareConfigs = cmp.Options{
	cmpopts.IgnoreUnexported(Config{}),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func defaults() *Config {
	return &Config{
		DatabaseURL:    "postgres://app:hunter2@db.example/callbackd",
		Listen:         ":8080",
		AdminListen:    "127.0.0.1:9090",
		CallbackPath:   "/jumio/callback",
		ClientIPHeader: "X-Forwarded-For",
		JumioIPs:       []string{"us", "eu", "sg"},
		JumioHosts: []string{
			"callback.jumio.com", "callback.lon.jumio.com", "callback.core-sgp.jumio.com",
			"callback.amer-1.jumio.ai", "callback.emea-1.jumio.ai", "callback.apac-1.jumio.ai",
		},
		DNSRefresh:      5 * time.Minute,
		DNSGrace:        24 * time.Hour,
		MaxBodyBytes:    1048576,
		StoreTimeout:    5 * time.Second,
		SpoolMaxBytes:   1073741824,
		RejectedPerHour: 600,
		Receive:         true,
		Workers:         8,
		RetrievalDelays: seconds(0, 40, 60, 100, 160, 240, 340, 460, 600, 760),
		RetrievalRPS:    10,
		MaxImageBytes:   20971520,
		ShutdownTimeout: 25 * time.Second,
		LogLevel:        "info",
		LogFormat:       "json",
		ClientID:        "client",
		ClientSecret:    "hunter3",
		Auth:            "oauth2",
		UserAgent:       "Acme Onboarding/v1.0",

		SessionTimeout:      15 * time.Minute,
		ReconcileGrace:      5 * time.Minute,
		ReconcileDelays:     seconds(0, 300, 900, 3600, 10800, 21600, 43200, 86400),
		JumioHealthInterval: time.Minute,

		OTLPProtocol:   "http/protobuf",
		OTLPTimeout:    10000,
		TracesExporter: "otlp",
		TracesSampler:  "parentbased_always_on",
	}
}

// TestDefaults covers the column "default" of the contract's table.
func TestDefaults(t *testing.T) {
	got, err := Load(with())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaults(), got, compareConfigs); diff != "" {
		t.Errorf("defaults differ (-want +got):\n%s", diff)
	}
}

// TestEveryVariableIsRead sets every variable to something else than its default.
func TestEveryVariableIsRead(t *testing.T) {
	got, err := Load([]string{
		"DATABASE_URL=postgres://a:p@one.example,two.example:5433/db?target_session_attrs=read-write&pool_max_conns=4",
		"CALLBACKD_LISTEN=[::1]:0",
		"CALLBACKD_ADMIN_LISTEN=0.0.0.0:9091",
		"CALLBACKD_CALLBACK_PATH=/hook/a-B_9~",
		"CALLBACKD_TRUSTED_PROXIES=10.1.2.3/8, 192.0.2.7 ,2001:db8::/32,2001:db8::1,::ffff:192.0.2.8,::ffff:172.16.0.0/108",
		"CALLBACKD_CLIENT_IP_HEADER=Forwarded",
		"CALLBACKD_PROXY_PROTOCOL=true",
		"CALLBACKD_ALLOWED_CIDRS=203.0.113.0/24",
		"CALLBACKD_JUMIO_IPS=EU",
		"CALLBACKD_JUMIO_HOSTS= One.example , two.example",
		"CALLBACKD_DNS_SERVER=[2001:db8::53]:53",
		"CALLBACKD_DNS_REFRESH=1s",
		"CALLBACKD_DNS_GRACE=0s",
		"CALLBACKD_MAX_BODY_BYTES=67108864",
		"CALLBACKD_STORE_TIMEOUT=250ms",
		"CALLBACKD_SPOOL_DIR=/var/spool/callbackd",
		"CALLBACKD_SPOOL_MAX_BYTES=1",
		"CALLBACKD_USER_REFERENCE_KEY= key with blanks ",
		"CALLBACKD_REJECTED_PER_HOUR=0",
		"CALLBACKD_RECEIVE=false",
		"CALLBACKD_MIGRATE_ON_START=true",
		"CALLBACKD_WORKERS= 3 ",
		"CALLBACKD_RETRIEVAL_DELAYS=1s, 2m",
		"CALLBACKD_RETRIEVAL_RPS=0.5",
		"CALLBACKD_MAX_IMAGE_BYTES=7",
		"CALLBACKD_SHUTDOWN_TIMEOUT=1s",
		"CALLBACKD_LOG_LEVEL=debug",
		"CALLBACKD_LOG_FORMAT=console",
		"JUMIO_CLIENT_ID=i",
		"JUMIO_CLIENT_SECRET=s",
		"JUMIO_CLIENT_ID_AMER_1=ia",
		"JUMIO_CLIENT_SECRET_AMER_1=sa",
		"JUMIO_AUTH=basic",
		"JUMIO_USER_AGENT=A B/v1",
		"JUMIO_TOKEN_URL=https://auth.example",
		"JUMIO_RETRIEVAL_URL=http://[::1]:8090/",
		"JUMIO_ACCOUNT_URL=https://account.example",
		"JUMIO_API_URL=https://api.example",
		"JUMIO_STATUS_URL=https://status.example",
		"JUMIO_DATA_CENTER=apac-1",
		"CALLBACKD_PUBLIC_CALLBACK_URL=https://callbacks.example/hook/a-B_9~",
		"CALLBACKD_SESSION_TIMEOUT=1m",
		"CALLBACKD_RECONCILE_GRACE=0s",
		"CALLBACKD_RECONCILE_DELAYS=1s,2s",
		"CALLBACKD_JUMIO_HEALTH_INTERVAL=0",
		"CALLBACKD_RETENTION=images=6mo, images@10=30d,results@a b=5y1mo2d3h,events=1.5h",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://traces.example/in",
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf",
		"OTEL_EXPORTER_OTLP_HEADERS=a=b",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS=c=d",
		"OTEL_EXPORTER_OTLP_TIMEOUT=1",
		"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=3600000",
		"OTEL_TRACES_EXPORTER=none",
		"OTEL_TRACES_SAMPLER=traceidratio",
		"OTEL_TRACES_SAMPLER_ARG=0.25",
		"OTEL_SERVICE_NAME=kyc",
		"OTEL_RESOURCE_ATTRIBUTES=x=y",
		"OTEL_SDK_DISABLED=true",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		DatabaseURL:      "postgres://a:p@one.example,two.example:5433/db?target_session_attrs=read-write&pool_max_conns=4",
		Listen:           "[::1]:0",
		AdminListen:      "0.0.0.0:9091",
		CallbackPath:     "/hook/a-B_9~",
		TrustedProxies:   prefixes("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "2001:db8::1/128", "192.0.2.8/32", "172.16.0.0/12"),
		ClientIPHeader:   "Forwarded",
		ProxyProtocol:    true,
		AllowedCIDRs:     prefixes("203.0.113.0/24"),
		JumioIPs:         []string{"eu"},
		JumioHosts:       []string{"one.example", "two.example"},
		DNSServer:        "[2001:db8::53]:53",
		DNSRefresh:       time.Second,
		MaxBodyBytes:     64 << 20,
		StoreTimeout:     250 * time.Millisecond,
		SpoolDir:         "/var/spool/callbackd",
		SpoolMaxBytes:    1,
		UserReferenceKey: " key with blanks ",
		MigrateOnStart:   true,
		Workers:          3,
		RetrievalDelays:  seconds(1, 120),
		RetrievalRPS:     0.5,
		MaxImageBytes:    7,
		ShutdownTimeout:  time.Second,
		LogLevel:         "debug",
		LogFormat:        "console",
		ClientID:         "i",
		ClientSecret:     "s",
		DataCenters:      map[string]Credentials{"amer-1": {ClientID: "ia", ClientSecret: "sa"}},
		Auth:             "basic",
		UserAgent:        "A B/v1",
		TokenURL:         &url.URL{Scheme: "https", Host: "auth.example"},
		RetrievalURL:     &url.URL{Scheme: "http", Host: "[::1]:8090"},
		AccountURL:       &url.URL{Scheme: "https", Host: "account.example"},
		APIURL:           &url.URL{Scheme: "https", Host: "api.example"},
		StatusURL:        &url.URL{Scheme: "https", Host: "status.example"},
		DataCenter:       "apac-1",

		PublicCallbackURL: "https://callbacks.example/hook/a-B_9~",
		SessionTimeout:    time.Minute,
		ReconcileDelays:   seconds(1, 2),
		Retention: []RetentionRule{
			{Class: "images", Months: 6},
			{Class: "images", DefinitionKey: "10", Days: 30},
			{Class: "results", DefinitionKey: "a b", Months: 61, Days: 2, Duration: 3 * time.Hour},
			{Class: "events", Duration: 90 * time.Minute},
		},

		OTLPEndpoint:       "http://collector:4317",
		OTLPTracesEndpoint: "https://traces.example/in",
		OTLPProtocol:       "grpc",
		OTLPTracesProtocol: "http/protobuf",
		OTLPHeaders:        "a=b",
		OTLPTracesHeaders:  "c=d",
		OTLPTimeout:        1,
		OTLPTracesTimeout:  3600000,
		TracesExporter:     "none",
		TracesSampler:      "traceidratio",
		TracesSamplerArg:   "0.25",
		ServiceName:        "kyc",
		ResourceAttrs:      "x=y",
		SDKDisabled:        true,
	}
	if diff := cmp.Diff(want, got, compareConfigs); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
}

// TestRightValues accepts what lies at the edges of right.
func TestRightValues(t *testing.T) {
	for name, environ := range map[string][]string{
		"keyword DSN":                   with("DATABASE_URL=host=/tmp dbname=x user=y"),
		"JUMIO_IPS none":                with("CALLBACKD_JUMIO_IPS=none", "CALLBACKD_JUMIO_HOSTS=none"),
		"empty counts as unset":         with("CALLBACKD_WORKERS=", "CALLBACKD_USER_REFERENCE_KEY_FILE=", "CALLBACKD_DNS_SERVER="),
		"receive-only needs no JUMIO_*": {"DATABASE_URL=postgres://x", "CALLBACKD_WORKERS=0"},
		"data center pairs alone": {
			"DATABASE_URL=postgres://x", "JUMIO_USER_AGENT=A B/v1",
			"JUMIO_CLIENT_ID_EMEA_1=i", "JUMIO_CLIENT_SECRET_EMEA_1=s",
		},
		"Kubernetes service links": with(
			"CALLBACKD_SERVICE_HOST=10.0.0.1", "CALLBACKD_SERVICE_PORT=80", "CALLBACKD_SERVICE_PORT_HTTP=80",
			"CALLBACKD_PORT=tcp://10.0.0.1:80", "CALLBACKD_PORT_80_TCP=tcp://10.0.0.1:80",
			"CALLBACKD_PORT_80_TCP_ADDR=10.0.0.1", "CALLBACKD_ADMIN_SERVICE_HOST=10.0.0.1",
			"CALLBACKD_ADMIN_PORT=tcp://10.0.0.1:90",
		),
		"no reconciliation":         with("CALLBACKD_RECONCILE_DELAYS=none", "CALLBACKD_JUMIO_HEALTH_INTERVAL=1s"),
		"longest public URL":        with("CALLBACKD_PUBLIC_CALLBACK_URL=https://h.example/" + strings.Repeat("x", 237)),
		"public URL with a query":   with("CALLBACKD_PUBLIC_CALLBACK_URL=https://h.example/jumio/callback?token=x"),
		"public URL of a test":      with("CALLBACKD_PUBLIC_CALLBACK_URL=http://127.0.0.1:8080/jumio/callback"),
		"public URL in a network":   with("CALLBACKD_PUBLIC_CALLBACK_URL=http://callbackd:8080/jumio/callback"),
		"other programs' variables": with("JUMIO_WEBHOOK_SECRET=x", "CALLBACK_URL=x", "DATABASE_URLS=x"),
	} {
		t.Run(name, func(t *testing.T) {
			if got := lines(t, environ); got != nil {
				t.Errorf("refused: %q", got)
			}
		})
	}
}

// TestWrongValues has wrong values for every variable. Each leads to exactly
// one line, which begins with the variable's name, tells the value unless it
// is secret, and ends with what would be right.
func TestWrongValues(t *testing.T) {
	values := map[string][]string{
		"DATABASE_URL":                 {" ", "not a dsn SECRET", "postgres://u:SECRET@h:port/d", "postgres://u:SECRET@h/d?pool_max_conns=many", "postgres://u:SECRET@h/d?target_session_attrs=best"},
		"CALLBACKD_LISTEN":             {"8080", "localhost", ":http", ":65536", ":-1", "a b:80", ":"},
		"CALLBACKD_ADMIN_LISTEN":       {"9090", "127.0.0.1", "127.0.0.1:x"},
		"CALLBACKD_CALLBACK_PATH":      {"SECRET", "/", "/SECRET/", "//SECRET", "/a//SECRET", "/a/../SECRET", "/./SECRET", "/SECRET?x=1", "/SECRET#x", "/SECRET%2Fx", "/SECRET x", "/SECRÉT", "/SECRET/*", "/{SECRET}", "/healthz", "/readyz", "/SECRET" + strings.Repeat("x", 240), "https://h/SECRET"},
		"CALLBACKD_TRUSTED_PROXIES":    {"10.0.0.0/33", "10.0.0", "lb.example", "10.0.0.1,,10.0.0.2", "10.0.0.1,", "fe80::1%eth0", "::ffff:10.0.0.0/95", "10.0.0.1 10.0.0.2"},
		"CALLBACKD_CLIENT_IP_HEADER":   {"X Real IP", "X-Real-IP:", "X-Real-IP,Forwarded", "X-Rëal"},
		"CALLBACKD_PROXY_PROTOCOL":     {"v2", "yes"},
		"CALLBACKD_ALLOWED_CIDRS":      {"*", "10.0.0.0-10.0.0.9"},
		"CALLBACKD_JUMIO_IPS":          {"usa", "us,none", "us,,eu"},
		"CALLBACKD_JUMIO_HOSTS":        {"https://callback.jumio.com", "callback.jumio.com:443", "192.0.2.1", "a..b", "-a.example", "none,a.example", "a b", strings.Repeat("a", 64) + ".example"},
		"CALLBACKD_DNS_SERVER":         {"10.0.0.2", "2001:db8::53", ":53", "10.0.0.2:0", "10.0.0.2:dns"},
		"CALLBACKD_DNS_REFRESH":        {"999ms", "-5m", "0", "5", "five"},
		"CALLBACKD_DNS_GRACE":          {"-1s", "1d", "24"},
		"CALLBACKD_MAX_BODY_BYTES":     {"0", "-1", "67108865", "1MiB", "1e6"},
		"CALLBACKD_STORE_TIMEOUT":      {"0s", "-1s", "5"},
		"CALLBACKD_SPOOL_DIR":          {"/", "//"},
		"CALLBACKD_SPOOL_MAX_BYTES":    {"0", "1G"},
		"CALLBACKD_USER_REFERENCE_KEY": {" \t"},
		"CALLBACKD_ERASURE_KEY":        {" \t"},
		"CALLBACKD_REJECTED_PER_HOUR":  {"-1", "many", "2147483648"},
		"CALLBACKD_RECEIVE":            {"off"},
		"CALLBACKD_MIGRATE_ON_START":   {"2"},
		"CALLBACKD_WORKERS":            {"-1", "1001", "8.5", "eight"},
		"CALLBACKD_RETENTION":          {"photos=1d", "images", "images=", "images=0", "images=0d", "images=-1d", "images=-5m", "images=1d-2h", "images=1w", "images=1mo2y", "images=1000y", "images=999ns", "images@=1d", "=1d", "images=1d,", "images=1d;results=2d", "images=1d,images=2d", "images@10=1d,results=1d,images@10=1d"},
		"CALLBACKD_RETRIEVAL_DELAYS":   {"-1s", "0s,40", "0s,,1s", "none", strings.TrimSuffix(strings.Repeat("1s,", 11), ",")},
		"CALLBACKD_RETRIEVAL_RPS":      {"0", "-1", "NaN", "Inf", "1000001", "ten"},
		"CALLBACKD_MAX_IMAGE_BYTES":    {"0", "268435457", "20M"},
		"CALLBACKD_SHUTDOWN_TIMEOUT":   {"0s", "-25s", "25"},
		"CALLBACKD_LOG_LEVEL":          {"trace", "INFO", "fatal"},
		"CALLBACKD_LOG_FORMAT":         {"text"},
		"JUMIO_CLIENT_ID":              {"a:b", "a\nb", "idé"},
		"JUMIO_CLIENT_SECRET":          {"SECRET\nx", " SECRET"},
		"JUMIO_AUTH":                   {"bearer"},
		"JUMIO_USER_AGENT":             {"Acme\r\nX-Evil: 1", "Äcme/v1"},
		"JUMIO_TOKEN_URL":              {"auth.example", "ftp://auth.example", "https://", "https://auth.example/oauth2/token", "https://auth.example?x=1", "https://auth.example#x", "https://u:SECRET@auth.example", "https://auth.example:99999", "u:SECRET@auth.example"},
		"JUMIO_RETRIEVAL_URL":          {"https://jumio.example/api/v1", "//jumio.example", "https://:8080"},
		"JUMIO_ACCOUNT_URL":            {"https://jumio.example/api/v1/accounts", "jumio.example"},
		"JUMIO_API_URL":                {"https://jumio.example/api/v1", "ftp://jumio.example"},
		"JUMIO_STATUS_URL":             {"https://jumio.example/health", "https://"},
		"JUMIO_DATA_CENTER":            {"us", "AMER_1", "amer-2", "amer-1,emea-1"},

		"CALLBACKD_PUBLIC_CALLBACK_URL": {
			"SECRET", "/SECRET", "http://h.example/SECRET", "https://h.example:8443/SECRET", "https://h.example:/SECRET", "https://192.0.2.1/SECRET",
			"https://[2001:db8::1]/SECRET", "http://192.0.2.1/SECRET", "https://u:SECRET@h.example/", "https://h.example/#SECRET", "https://h.example/SECRET#",
			"ftp://localhost/SECRET", "https://h.example/SECRET x", "https://h.example/SECRÉT", "https:///SECRET", "https://h_.example:x/SECRET", "https://h.example/" + strings.Repeat("SECRET", 40),
		},
		"CALLBACKD_SESSION_TIMEOUT":       {"0s", "-15m", "15"},
		"CALLBACKD_RECONCILE_GRACE":       {"-1s", "5"},
		"CALLBACKD_RECONCILE_DELAYS":      {"-1s", "0s,5", "0s,,1s", "never", strings.TrimSuffix(strings.Repeat("1s,", 101), ",")},
		"CALLBACKD_JUMIO_HEALTH_INTERVAL": {"-1m", "999ms", "never"},

		"CALLBACKD_IMAGE_STORE":            {"images", "ftp://images", "file://images", "s3://u:SECRET@images", "s3://images?colour=red"},
		"CALLBACKD_IMAGE_STORE_ACCESS_KEY": {"SECRET\nx"},
		"CALLBACKD_IMAGE_STORE_SECRET_KEY": {"SECRET\nx"},
		"CALLBACKD_IMAGE_RECIPIENTS":       {"age1", "ssh-ed25519 AAAA"},
		"CALLBACKD_IMAGE_IDENTITY":         {"AGE-SECRET-KEY-1SECRET", "# SECRET"},

		"OTEL_EXPORTER_OTLP_ENDPOINT":        {"collector:4317", "//collector", "unix:///run/otel", "http://", "http://collector:99999", "http://u:SECRET@collector:4318", "http://collector?x=1", "http://collector#x", "http://collector/%zz"},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {"collector", "ftp://collector/v1/traces"},
		"OTEL_EXPORTER_OTLP_PROTOCOL":        {"http", "grpc", "http/json", "zipkin"},
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": {"thrift", "grpc"},
		"OTEL_EXPORTER_OTLP_HEADERS":         {"SECRET", "api-key=SECRET,", "api-key=SECRET,=x", "api key=SECRET", "api-key=SECRET%zz", "api-key=SECRET%0ax", "a=SECRET\nx"},
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS":  {"Authorization: Bearer SECRET"},
		"OTEL_EXPORTER_OTLP_TIMEOUT":         {"0", "-1", "10s", "3600001"},
		"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT":  {"0", "x"},
		"OTEL_TRACES_EXPORTER":               {"zipkin", "otlp,console"},
		"OTEL_TRACES_SAMPLER":                {"sometimes", "jaeger_remote", "parentbased_", "parentbased_parentbased_always_on"},
		"OTEL_TRACES_SAMPLER_ARG":            nil, // TestTracing: it depends on the sampler
		"OTEL_SERVICE_NAME":                  {"a\nb"},
		"OTEL_RESOURCE_ATTRIBUTES":           {"x", "=y", "x=%", "x=y,,z=1"},
		"OTEL_SDK_DISABLED":                  {"yes"},
	}
	for _, v := range Variables() {
		if _, listed := values[v.Name]; !listed {
			t.Errorf("no wrong value of %s is tried", v.Name)
		}
		for _, value := range values[v.Name] {
			t.Run(v.Name+"="+value, func(t *testing.T) {
				got := lines(t, with(v.Name+"="+value))
				if len(got) != 1 {
					t.Fatalf("%d lines, want 1: %q", len(got), got)
				}
				line := got[0]
				if !strings.HasPrefix(line, v.Name+" ") || !strings.Contains(line, ", want "+v.want) {
					t.Errorf("line %q does not begin with the name and tell what is right", line)
				}
				if strings.ContainsAny(line, "\r\n") || len(line) > 500 {
					t.Errorf("line %q is broken or too long", line)
				}
				if v.Secret && strings.Contains(line, quote(value)) {
					t.Errorf("line %q holds a secret", line)
				}
				if strings.Contains(value, "SECRET") && strings.Contains(strings.TrimPrefix(line, v.Name), "SECRET") {
					t.Errorf("line %q holds a secret", line)
				}
				if !v.Secret && !strings.Contains(value, "@") && !strings.Contains(line, `"`) {
					t.Errorf("line %q does not tell what it was", line)
				}
			})
		}
	}
}

// TestWrongItem names the item of a list, not the whole list.
func TestWrongItem(t *testing.T) {
	got := lines(t, with("CALLBACKD_ALLOWED_CIDRS=192.0.2.1,192.0.2.300,192.0.2.2"))
	want := []string{`CALLBACKD_ALLOWED_CIDRS has "192.0.2.300" in it, want CIDRs or addresses separated by commas, such as 203.0.113.0/24,2001:db8::7`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestAllAtOnce: missing, wrong and misspelt variables are all told in one go,
// in the order of the table.
func TestAllAtOnce(t *testing.T) {
	got := lines(t, []string{
		"CALLBACKD_LOG_LEVEL=loud",
		"CALLBACKD_LISTEN=nowhere",
		"CALLBACKD_DNS_GRACE_FILE=/nonexistent/grace",
		"CALLBACKD_WORKER=9",
		"JUMIO_CLIENT_SECRET_AMER_1=s",
	})
	want := []string{
		"DATABASE_URL is missing, want a Postgres DSN such as postgres://user@host/database",
		`CALLBACKD_LISTEN is "nowhere", want [host]:port such as :8080`,
		`CALLBACKD_DNS_GRACE cannot be read from the file that CALLBACKD_DNS_GRACE_FILE names, "/nonexistent/grace" (no such file or directory), want a readable file that holds a duration such as 24h, or 0s`,
		`CALLBACKD_LOG_LEVEL is "loud", want debug, info, warn or error`,
		"JUMIO_USER_AGENT is missing, want printable ASCII such as YourCompany YourApp/v1.0, or CALLBACKD_WORKERS=0",
		"CALLBACKD_WORKER is unknown, did you mean CALLBACKD_WORKERS?",
		"JUMIO_CLIENT_ID_AMER_1 is missing, want the API client id of your Jumio account, printable and without a colon, or CALLBACKD_WORKERS=0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines differ (-want +got):\n%s", diff)
	}
}

// TestTogether has values that are right alone and wrong together.
func TestTogether(t *testing.T) {
	database := "DATABASE_URL=postgres://x"
	for name, test := range map[string]struct {
		environ []string
		want    []string // the variables that are named, in order
	}{
		"nothing at all":                      {nil, []string{"DATABASE_URL", "JUMIO_CLIENT_ID", "JUMIO_CLIENT_SECRET", "JUMIO_USER_AGENT"}},
		"neither receiver nor worker":         {[]string{database, "CALLBACKD_RECEIVE=false", "CALLBACKD_WORKERS=0"}, []string{"CALLBACKD_WORKERS"}},
		"PROXY protocol from nobody":          {with("CALLBACKD_PROXY_PROTOCOL=true"), []string{"CALLBACKD_TRUSTED_PROXIES"}},
		"id without secret":                   {[]string{database, "JUMIO_CLIENT_ID=i", "JUMIO_USER_AGENT=A/v1"}, []string{"JUMIO_CLIENT_SECRET"}},
		"id without secret beside a pair":     {[]string{database, "JUMIO_CLIENT_ID=i", "JUMIO_USER_AGENT=A/v1", "JUMIO_CLIENT_ID_AMER_1=i", "JUMIO_CLIENT_SECRET_AMER_1=s"}, []string{"JUMIO_CLIENT_SECRET"}},
		"half a data center's pair":           {with("JUMIO_CLIENT_ID_APAC_1=i"), []string{"JUMIO_CLIENT_SECRET_APAC_1"}},
		"a data center's wrong id and secret": {with("JUMIO_CLIENT_ID_APAC_1=a:b", "JUMIO_CLIENT_SECRET_APAC_1=\x01"), []string{"JUMIO_CLIENT_ID_APAC_1", "JUMIO_CLIENT_SECRET_APAC_1"}},
		"unreadable WORKERS stays needy":      {[]string{database, "CALLBACKD_WORKERS=no"}, []string{"CALLBACKD_WORKERS", "JUMIO_CLIENT_ID", "JUMIO_CLIENT_SECRET", "JUMIO_USER_AGENT"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, line := range lines(t, test.environ) {
				variable, _, _ := strings.Cut(line, " ")
				got = append(got, variable)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestJumio: a command that calls Jumio is told what is wrong with what it uses, all at
// once, and nothing else.
func TestJumio(t *testing.T) {
	const agent = "JUMIO_USER_AGENT=A/v1"
	wrongElsewhere := []string{"CALLBACKD_WORKERS=many", "CALLBACKD_LISTEN=nowhere", "CALLBACKD_MISSPELT=x"}
	for name, test := range map[string]struct {
		environ    []string
		authorized bool
		others     []string
		want       []string // the variables that are named, in order
	}{
		"by credentials":       {[]string{agent, "JUMIO_CLIENT_ID=i", "JUMIO_CLIENT_SECRET=s"}, true, nil, nil},
		"by one data center's": {[]string{agent, "JUMIO_CLIENT_ID_EMEA_1=i", "JUMIO_CLIENT_SECRET_EMEA_1=s"}, true, nil, nil},
		"by other means":       {[]string{agent}, false, nil, nil},
		"nothing set":          {nil, true, []string{"DATABASE_URL", "CALLBACKD_USER_REFERENCE_KEY"}, []string{"DATABASE_URL", "JUMIO_CLIENT_ID", "JUMIO_CLIENT_SECRET", "JUMIO_USER_AGENT"}},
		"wrong in its own": {
			[]string{agent, "JUMIO_API_URL=x", "JUMIO_DATA_CENTER=x", "CALLBACKD_PUBLIC_CALLBACK_URL=x"},
			false,
			[]string{"CALLBACKD_PUBLIC_CALLBACK_URL"},
			[]string{"JUMIO_API_URL", "JUMIO_DATA_CENTER", "CALLBACKD_PUBLIC_CALLBACK_URL"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Jumio(append(slices.Clone(wrongElsewhere), test.environ...), test.authorized, test.others...)
			var got []string
			if wrong, ok := errors.AsType[*Error](err); ok {
				for _, line := range wrong.Lines {
					variable, _, _ := strings.Cut(line, " ")
					got = append(got, variable)
				}
			} else if err != nil || c.UserAgent != "A/v1" {
				t.Errorf("got %v, %v", c, err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
