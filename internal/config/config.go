// Package config turns the process environment into validated settings.
//
// Each variable's name, default, meaning and valid form are in one place, the tags
// of [Config]. Load reports all problems at once. The package reads the environment
// and the files that _FILE variables name; it opens no connection and resolves no
// name. It never repeats a secret.
package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config is the validated configuration of one instance.
//
// Tags: caarlos0/env reads env and envDefault. "need" says when the variable is
// required, "secret" keeps its value out of all output, "want" describes a valid
// value and ends the error lines, "help" is its meaning.
type Config struct {
	// DatabaseURL is the Postgres DSN, with pgxpool's pool_* parameters if any.
	DatabaseURL string `env:"DATABASE_URL" need:"always" secret:"yes" want:"a Postgres DSN such as postgres://user@host/database" help:"Postgres DSN; several hosts with target_session_attrs=read-write work (failover)"`

	// Listen and AdminListen are host:port; the host may be empty, the port 0.
	Listen      string `env:"CALLBACKD_LISTEN" envDefault:":8080" want:"[host]:port such as :8080" help:"callback listener"`
	AdminListen string `env:"CALLBACKD_ADMIN_LISTEN" envDefault:"127.0.0.1:9090" want:"[host]:port such as 127.0.0.1:9090" help:"listener for metrics, probes and what only operators may see"`
	// CallbackPath is absolute, clean and without a trailing slash. A secret.
	CallbackPath string `env:"CALLBACKD_CALLBACK_PATH" envDefault:"/jumio/callback" secret:"yes" want:"an absolute path of unescaped letters, digits and -._~!$&'()+,;=:@ in at most 240 characters, without empty, . or .. segments or a trailing slash, other than /healthz and /readyz" help:"path that Jumio posts to; it may contain an unguessable part, so it is treated as a secret"`
	// TrustedProxies and AllowedCIDRs are masked; a bare address is a /32 or /128.
	TrustedProxies []netip.Prefix `env:"CALLBACKD_TRUSTED_PROXIES" want:"CIDRs or addresses separated by commas, such as 10.0.0.0/8,192.0.2.7" help:"CIDRs of load balancers whose client address headers are trusted"`
	ClientIPHeader string         `env:"CALLBACKD_CLIENT_IP_HEADER" envDefault:"X-Forwarded-For" want:"the name of an HTTP header such as X-Forwarded-For, Forwarded or X-Real-IP" help:"header with the client address: X-Forwarded-For, Forwarded (RFC 7239), or a single-address header such as X-Real-IP; no effect with the PROXY protocol"`
	ProxyProtocol  bool           `env:"CALLBACKD_PROXY_PROTOCOL" envDefault:"false" want:"true or false" help:"PROXY protocol v1 and v2 on the callback listener, from trusted proxies only"`
	AllowedCIDRs   []netip.Prefix `env:"CALLBACKD_ALLOWED_CIDRS" want:"CIDRs or addresses separated by commas, such as 203.0.113.0/24,2001:db8::7" help:"addresses allowed besides Jumio's"`
	// JumioIPs names built-in address lists (us, eu, sg), in lower case; empty for "none".
	JumioIPs []string `env:"CALLBACKD_JUMIO_IPS" envDefault:"us,eu,sg" want:"some of us,eu,sg separated by commas, or none" help:"which built-in address lists are allowed; none disables them"`
	// JumioHosts are host names in lower case; empty for "none".
	JumioHosts []string `env:"CALLBACKD_JUMIO_HOSTS" envDefault:"callback.jumio.com,callback.lon.jumio.com,callback.core-sgp.jumio.com,callback.amer-1.jumio.ai,callback.emea-1.jumio.ai,callback.apac-1.jumio.ai" want:"host names separated by commas, or none" help:"host names that are resolved to Jumio's current addresses; none disables this"`
	// DNSServer is host:port, or empty for the system's resolver.
	DNSServer  string        `env:"CALLBACKD_DNS_SERVER" want:"host:port such as 10.0.0.2:53" help:"DNS resolver; empty for the system's"`
	DNSRefresh time.Duration `env:"CALLBACKD_DNS_REFRESH" envDefault:"5m" want:"a duration of at least 1s, such as 5m" help:"how often, with jitter, the host names are resolved"`
	DNSGrace   time.Duration `env:"CALLBACKD_DNS_GRACE" envDefault:"24h" want:"a duration such as 24h, or 0s" help:"how long an address that left DNS stays allowed"`

	MaxBodyBytes int64         `env:"CALLBACKD_MAX_BODY_BYTES" envDefault:"1048576" want:"a number of bytes from 1 to 67108864" help:"size limit of a callback in bytes; a larger one gets 413"`
	StoreTimeout time.Duration `env:"CALLBACKD_STORE_TIMEOUT" envDefault:"5s" want:"a duration above zero, such as 5s" help:"how long a callback may wait for Postgres before it is spooled or gets 503"`
	// SpoolDir is empty for no spool. It has no effect without Receive.
	SpoolDir string `env:"CALLBACKD_SPOOL_DIR" want:"the path of a directory of its own" help:"directory where callbacks are kept, fsynced, during a Postgres outage; empty for none"`
	// SpoolMaxBytes has no effect without a spool.
	SpoolMaxBytes int64 `env:"CALLBACKD_SPOOL_MAX_BYTES" envDefault:"1073741824" want:"a number of bytes of at least 1" help:"the spool's size limit in bytes; when it is full, callbacks get 503"`
	// UserReferenceKey is the HMAC-SHA-256 key of userReference; empty turns the check off. A secret.
	UserReferenceKey string `env:"CALLBACKD_USER_REFERENCE_KEY" secret:"yes" want:"a key" help:"when set, the userReference of a callback must carry our signature (callbackd sign makes it), or the callback gets 403; on workers, the one in Jumio's details too"`
	// RejectedPerHour is a number of rejected callbacks; 0 keeps none.
	RejectedPerHour int `env:"CALLBACKD_REJECTED_PER_HOUR" envDefault:"600" want:"a whole number of at least 0" help:"how many rejected callbacks one instance keeps in any 60 minutes, half of them reserved for allowed addresses; 0 keeps none"`

	Receive        bool `env:"CALLBACKD_RECEIVE" envDefault:"true" want:"true or false" help:"false makes a worker-only instance, without a callback listener"`
	MigrateOnStart bool `env:"CALLBACKD_MIGRATE_ON_START" envDefault:"false" want:"true or false" help:"serve brings the schema up to date before it starts; one instance does it, the others wait"`

	// Workers is the number of retrievals at a time; 0 makes a receive-only instance.
	Workers int `env:"CALLBACKD_WORKERS" envDefault:"8" want:"a whole number from 0 to 1000" help:"how many retrievals run at a time; 0 makes a receive-only instance, which needs no JUMIO_* variable"`
	// RetrievalDelays holds the delay before each attempt, 1 to 10 of them.
	RetrievalDelays []time.Duration `env:"CALLBACKD_RETRIEVAL_DELAYS" envDefault:"0s,40s,60s,100s,160s,240s,340s,460s,600s,760s" want:"1 to 10 durations separated by commas, such as 0s,40s,60s: Jumio allows ten attempts" help:"delay before each attempt of a retrieval; as many attempts as delays, at most 10"`
	// RetrievalRPS is in requests a second, for each data center and all instances together.
	RetrievalRPS    float64       `env:"CALLBACKD_RETRIEVAL_RPS" envDefault:"10" want:"a number above 0 and at most 1000000, such as 10" help:"most requests a second to Jumio, per data center, over all instances on one database (Jumio allows 15 per tenant)"`
	MaxImageBytes   int64         `env:"CALLBACKD_MAX_IMAGE_BYTES" envDefault:"20971520" want:"a number of bytes from 1 to 268435456" help:"size limit of an image in bytes; a larger one is an error"`
	ShutdownTimeout time.Duration `env:"CALLBACKD_SHUTDOWN_TIMEOUT" envDefault:"25s" want:"a duration above zero, such as 25s" help:"how long a stop may take after SIGTERM or SIGINT"`

	// LogLevel is one of debug, info, warn, error; LogFormat is json or console.
	LogLevel  string `env:"CALLBACKD_LOG_LEVEL" envDefault:"info" want:"debug, info, warn or error" help:"lowest level that is logged"`
	LogFormat string `env:"CALLBACKD_LOG_FORMAT" envDefault:"json" want:"json or console" help:"json for one JSON object a line, console for people"`

	// ClientID and ClientSecret are for every data center that has no pair of its
	// own in DataCenters. Both are empty when only those are given.
	ClientID     string `env:"JUMIO_CLIENT_ID" need:"with workers" want:"the API client id of your Jumio account, printable and without a colon" help:"API client id, also the Basic user name; JUMIO_CLIENT_ID_AMER_1 and so on override it for one data center"`
	ClientSecret string `env:"JUMIO_CLIENT_SECRET" need:"with workers" secret:"yes" want:"the API client secret of your Jumio account, printable" help:"API client secret, also the Basic password; JUMIO_CLIENT_SECRET_AMER_1 and so on override it for one data center"`
	// DataCenters is keyed by the data center as it stands in a host name ("amer-1").
	DataCenters map[string]Credentials `env:"-"`
	// Auth is oauth2 or basic.
	Auth      string `env:"JUMIO_AUTH" envDefault:"oauth2" want:"oauth2 or basic" help:"how requests to Jumio are authorized: oauth2 or basic"`
	UserAgent string `env:"JUMIO_USER_AGENT" need:"with workers" want:"printable ASCII such as YourCompany YourApp/v1.0" help:"User-Agent that Jumio demands: YourCompany YourApp/v1.0"`
	// The endpoints are scheme and host only; nil for Jumio's own, by data center.
	TokenURL     *url.URL `env:"JUMIO_TOKEN_URL" want:"scheme, host and port only, such as https://jumio.example:8443" help:"private or test endpoint for tokens, for every data center; empty for Jumio's own"`
	RetrievalURL *url.URL `env:"JUMIO_RETRIEVAL_URL" want:"scheme, host and port only, such as https://jumio.example:8443" help:"private or test endpoint for retrieval, for every data center; empty for Jumio's own"`
	AccountURL   *url.URL `env:"JUMIO_ACCOUNT_URL" want:"scheme, host and port only, such as https://jumio.example:8443" help:"private or test endpoint for starting verifications, for every data center; empty for Jumio's own"`
	APIURL       *url.URL `env:"JUMIO_API_URL" want:"scheme, host and port only, such as https://jumio.example:8443" help:"private or test endpoint for uploads and their end, for every data center; empty for Jumio's own"`
	StatusURL    *url.URL `env:"JUMIO_STATUS_URL" want:"scheme, host and port only, such as https://jumio.example:8443" help:"private or test endpoint for Jumio's health, for every data center; empty for Jumio's own"`
	// DataCenter is one of Jumio's three, or empty.
	DataCenter string `env:"JUMIO_DATA_CENTER" want:"amer-1, emea-1 or apac-1" help:"where verifications are started: amer-1, emea-1 or apac-1; --data-center overrides it"`

	// PublicCallbackURL is what Jumio is told to call; empty for what its portal says. A
	// secret, since it holds CallbackPath.
	PublicCallbackURL string `env:"CALLBACKD_PUBLIC_CALLBACK_URL" secret:"yes" want:"an https URL of at most 255 characters with a host name, and without user information, port and fragment, as Jumio demands; for tests, http and a port are allowed at a loopback address or a name without a dot" help:"the callbackUrl that verification create gives to Jumio; empty leaves it to Jumio's portal; treated as a secret, since it contains the callback path"`
	// SessionTimeout and ReconcileGrace make the deadline of an expectation.
	SessionTimeout time.Duration `env:"CALLBACKD_SESSION_TIMEOUT" envDefault:"15m" want:"a duration above zero, such as 15m" help:"Jumio's session time-out, part of the deadline by which a callback is expected"`
	ReconcileGrace time.Duration `env:"CALLBACKD_RECONCILE_GRACE" envDefault:"5m" want:"a duration such as 5m, or 0s" help:"how long after that a callback may still be under way"`
	// ReconcileDelays holds the delay before each question; empty for "none".
	ReconcileDelays []time.Duration `env:"CALLBACKD_RECONCILE_DELAYS" envDefault:"0s,5m,15m,1h,3h,6h,12h,24h" want:"1 to 100 durations separated by commas, such as 0s,5m,15m, or none" help:"delay before each time that Jumio is asked what has become of a verification, from the deadline on; after the last it is overdue; none never asks"`
	// JumioHealthInterval is 0 for never.
	JumioHealthInterval time.Duration `env:"CALLBACKD_JUMIO_HEALTH_INTERVAL" envDefault:"1m" want:"a duration of at least 1s, such as 1m, or 0" help:"how often Jumio is asked for its health; 0 never"`

	// ErasureKey is empty for none. A secret.
	ErasureKey string `env:"CALLBACKD_ERASURE_KEY" secret:"yes" want:"a secret, such as 32 random bytes in base64, the same on every worker and for good" help:"secret from which tombstones are made; needed to order an erasure, and by workers once one has been ordered"`
	// ImageStore is nil for the database.
	ImageStore *ImageStore `env:"CALLBACKD_IMAGE_STORE" want:"s3://BUCKET[/PREFIX][?endpoint=URL&region=REGION&path-style=true] or file:///DIRECTORY" help:"where images are stored: s3://BUCKET[/PREFIX][?endpoint=URL&region=REGION&path-style=true] or file:///DIRECTORY; empty for the database"`
	// Both of these, or none; without them, minio-go's chain: AWS_* variables, ~/.aws, the
	// instance's role. Secrets.
	ImageStoreAccessKey string `env:"CALLBACKD_IMAGE_STORE_ACCESS_KEY" secret:"yes" want:"the access key of an S3 client, printable" help:"access key for S3; empty for AWS's usual chain: AWS_* variables, the shared credentials file, the instance's role"`
	ImageStoreSecretKey string `env:"CALLBACKD_IMAGE_STORE_SECRET_KEY" secret:"yes" want:"the secret key of an S3 client, printable" help:"secret key for S3"`
	// ImageRecipients holds age public keys, separated by commas or lines.
	ImageRecipients string `env:"CALLBACKD_IMAGE_RECIPIENTS" want:"age public keys separated by commas, all of one kind, such as age1..." help:"age public keys that images are encrypted to before they leave the worker; empty for no encryption"`
	// ImageIdentity holds age private keys, separated by commas or lines, with comments. A secret.
	ImageIdentity string `env:"CALLBACKD_IMAGE_IDENTITY" secret:"yes" want:"age private keys separated by commas or lines, as age-keygen writes them" help:"age private keys that images are decrypted with, for image get, image move --reencrypt and the console alone; no worker needs one"`
	// Retention has at most one rule for a class and definition; none keeps all.
	Retention []RetentionRule `env:"CALLBACKD_RETENTION" want:"CLASS[@DEFINITION_KEY]=DURATION separated by commas, such as images=6mo,images@10=30d,results=5y, with the classes images, biometrics, results, callbacks, rejected, events and durations above zero" help:"for how long data is kept, by class and workflow definition: CLASS[@DEFINITION_KEY]=DURATION separated by commas, durations such as 12h, 30d, 6mo, 5y; workers delete what is older (docs/retention.md); empty keeps all"`

	// OpenTelemetry's own variables, with the meanings and defaults of its
	// specification ("OTLP Exporter", "SDK environment variables"). Tracing combines
	// them; those with TRACES in the name override the others.
	OTLPEndpoint       string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" want:"a URL such as http://collector:4318, without user information, query and fragment" help:"OpenTelemetry collector that traces are sent to, over HTTP with /v1/traces appended; empty for no tracing"`
	OTLPTracesEndpoint string `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" want:"a URL such as http://collector:4318/v1/traces, without user information, query and fragment" help:"overrides OTEL_EXPORTER_OTLP_ENDPOINT, and is used as it is"`
	OTLPProtocol       string `env:"OTEL_EXPORTER_OTLP_PROTOCOL" envDefault:"http/protobuf" want:"http/protobuf, the only protocol supported (most collectors take it on port 4318)" help:"how traces are sent; only http/protobuf is supported"`
	OTLPTracesProtocol string `env:"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" want:"http/protobuf, the only protocol supported (most collectors take it on port 4318)" help:"overrides OTEL_EXPORTER_OTLP_PROTOCOL"`
	// OTLPHeaders and OTLPTracesHeaders are secrets.
	OTLPHeaders       string `env:"OTEL_EXPORTER_OTLP_HEADERS" secret:"yes" want:"name=value pairs separated by commas, the values percent-encoded, such as api-key=abc" help:"headers for the collector, name=value separated by commas; treated as a secret"`
	OTLPTracesHeaders string `env:"OTEL_EXPORTER_OTLP_TRACES_HEADERS" secret:"yes" want:"name=value pairs separated by commas, the values percent-encoded, such as api-key=abc" help:"overrides OTEL_EXPORTER_OTLP_HEADERS; treated as a secret"`
	// OTLPTimeout and OTLPTracesTimeout are in milliseconds; 0 in the latter for unset.
	OTLPTimeout       int    `env:"OTEL_EXPORTER_OTLP_TIMEOUT" envDefault:"10000" want:"a whole number of milliseconds from 1 to 3600000" help:"how long one export may take, in milliseconds"`
	OTLPTracesTimeout int    `env:"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT" want:"a whole number of milliseconds from 1 to 3600000" help:"overrides OTEL_EXPORTER_OTLP_TIMEOUT"`
	TracesExporter    string `env:"OTEL_TRACES_EXPORTER" envDefault:"otlp" want:"otlp or none" help:"none disables tracing"`
	TracesSampler     string `env:"OTEL_TRACES_SAMPLER" envDefault:"parentbased_always_on" want:"always_on, always_off, traceidratio, or one of them after parentbased_" help:"which traces are sent; set it alike on every instance"`
	TracesSamplerArg  string `env:"OTEL_TRACES_SAMPLER_ARG" want:"a number from 0 to 1, such as 0.1" help:"share of the traces for traceidratio; empty for all"`
	ServiceName       string `env:"OTEL_SERVICE_NAME" want:"a name" help:"the service's name in traces; empty for service.name in OTEL_RESOURCE_ATTRIBUTES, or callbackd"`
	ResourceAttrs     string `env:"OTEL_RESOURCE_ATTRIBUTES" want:"name=value pairs separated by commas, the values percent-encoded, such as deployment.environment.name=prod" help:"attributes of the instance in traces, name=value separated by commas"`
	SDKDisabled       bool   `env:"OTEL_SDK_DISABLED" envDefault:"false" want:"true or false" help:"true disables tracing"`

	// values holds the text of each variable as it took effect.
	values map[string]string
}

// Credentials are an API client's id and secret; both are set.
type Credentials struct {
	ClientID     string
	ClientSecret string
}

// Error lists everything that is wrong with the environment.
type Error struct {
	// Lines names one variable each, in the order of [Variables]. None holds a secret.
	Lines []string
}

// Error returns the lines, separated by newlines.
func (e *Error) Error() string { return strings.Join(e.Lines, "\n") }

// Load reads the settings that `callbackd serve` needs from environ, which has
// the form of [os.Environ]. Its error is an [*Error].
func Load(environ []string) (*Config, error) {
	c, p := read(environ)
	c.checkComplete(p)
	p.addUnknown(environ)
	if err := p.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// Lookup returns the value of one variable, or its default, or "". It ignores the
// others, so that a command needs only the variables it uses. Its error is an
// [*Error] of one line.
func Lookup(environ []string, name string) (string, error) {
	if !slices.ContainsFunc(Variables(), func(v Variable) bool { return v.Name == name }) {
		return "", fmt.Errorf("config: unknown variable %s", name)
	}
	c, p := read(environ)
	if err := p.only(name); err != nil {
		return "", err
	}
	return c.values[name], nil
}

// RetrievalDelays is Lookup for CALLBACKD_RETRIEVAL_DELAYS.
func RetrievalDelays(environ []string) ([]time.Duration, error) {
	c, p := read(environ)
	return c.RetrievalDelays, p.only("CALLBACKD_RETRIEVAL_DELAYS")
}

// Jumio returns the settings that a command needs to call Jumio: those that begin with
// JUMIO_, and the variables that others names. Credentials must be there only if it is
// authorized by them. It ignores the rest. Its error is an [*Error].
func Jumio(environ []string, authorized bool, others ...string) (*Config, error) {
	c, p := read(environ)
	if authorized {
		c.checkCredentials(p, "")
	}
	c.checkUserAgent(p, "")
	for _, name := range others {
		if v, _ := variable(name); v.Required == "always" && c.values[name] == "" {
			p.say(name, missing(name))
		}
	}
	if err := p.among(func(name string) bool { return strings.HasPrefix(name, "JUMIO_") || slices.Contains(others, name) }); err != nil {
		return nil, err
	}
	return c, nil
}

// Require is Lookup for a variable that must be set.
func Require(environ []string, name string) (string, error) {
	value, err := Lookup(environ, name)
	if err == nil && value == "" {
		return "", &Error{Lines: []string{name + " " + missing(name)}}
	}
	return value, err
}
