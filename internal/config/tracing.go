package config

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Tracing says where the spans go, and of which traces.
type Tracing struct {
	// Endpoint is the complete URL.
	Endpoint string
	// Headers go with each export. Secrets.
	Headers map[string]string
	// Timeout bounds one export.
	Timeout time.Duration
	// Sampler is always_on, always_off or traceidratio, or one of them after
	// parentbased_. SampleRatio, from 0 to 1, is for traceidratio only.
	Sampler     string
	SampleRatio float64
	// ResourceAttributes include service.name.
	ResourceAttributes map[string]string
}

const (
	serviceNameKey     = "service.name"
	defaultServiceName = "callbackd"
)

// Tracing returns what OpenTelemetry's variables amount to; nil when tracing is
// off.
func (c *Config) Tracing() *Tracing {
	endpoint := cmp.Or(c.OTLPTracesEndpoint, c.OTLPEndpoint)
	if endpoint == "" || c.SDKDisabled || c.TracesExporter == "none" {
		return nil
	}
	if c.OTLPTracesEndpoint == "" {
		endpoint = strings.TrimRight(endpoint, "/") + "/v1/traces"
	}
	// checkTracing has checked them: none of the three fails.
	headers, _ := parsePairs(cmp.Or(c.OTLPTracesHeaders, c.OTLPHeaders))
	attributes, _ := parsePairs(c.ResourceAttrs)
	ratio, _ := strconv.ParseFloat(cmp.Or(c.TracesSamplerArg, "1"), 64)
	attributes[serviceNameKey] = cmp.Or(c.ServiceName, attributes[serviceNameKey], defaultServiceName)
	return &Tracing{
		Endpoint: endpoint, Headers: headers,
		Timeout: time.Duration(cmp.Or(c.OTLPTracesTimeout, c.OTLPTimeout)) * time.Millisecond,
		Sampler: c.TracesSampler, SampleRatio: ratio, ResourceAttributes: attributes,
	}
}

// checkTracing checks OpenTelemetry's variables, whether tracing is on or not.
func (c *Config) checkTracing(p *problems) {
	ensure := p.ensure
	const protocol = "http/protobuf"
	ensure(validCollector(c.OTLPEndpoint), "OTEL_EXPORTER_OTLP_ENDPOINT")
	ensure(validCollector(c.OTLPTracesEndpoint), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	ensure(c.OTLPProtocol == protocol || c.OTLPTracesProtocol != "", "OTEL_EXPORTER_OTLP_PROTOCOL")
	ensure(c.OTLPTracesProtocol == protocol || c.OTLPTracesProtocol == "", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	ensure(validHeaders(c.OTLPHeaders), "OTEL_EXPORTER_OTLP_HEADERS")
	ensure(validHeaders(c.OTLPTracesHeaders), "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
	const mostMilliseconds = 3600_000
	ensure(within(c.OTLPTimeout, 1, mostMilliseconds), "OTEL_EXPORTER_OTLP_TIMEOUT")
	ensure(p.values["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"] == "" || within(c.OTLPTracesTimeout, 1, mostMilliseconds), "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
	ensure(slices.Contains([]string{"otlp", "none"}, c.TracesExporter), "OTEL_TRACES_EXPORTER")
	ensure(slices.Contains([]string{"always_on", "always_off", "traceidratio"}, strings.TrimPrefix(c.TracesSampler, "parentbased_")), "OTEL_TRACES_SAMPLER")
	if strings.HasSuffix(c.TracesSampler, "traceidratio") && c.TracesSamplerArg != "" {
		ratio, err := strconv.ParseFloat(c.TracesSamplerArg, 64)
		ensure(err == nil && ratio >= 0 && ratio <= 1, "OTEL_TRACES_SAMPLER_ARG") // false for NaN
	}
	ensure(c.ServiceName == "" || printable.MatchString(c.ServiceName), "OTEL_SERVICE_NAME")
	_, err := parsePairs(c.ResourceAttrs)
	ensure(err == nil, "OTEL_RESOURCE_ATTRIBUTES")
}

// validCollector reports whether endpoint is empty or a URL that the exporter
// takes as it is.
func validCollector(endpoint string) bool {
	if endpoint == "" {
		return true
	}
	u, err := url.Parse(endpoint)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && validPort(u.Port(), true) &&
		u.User == nil && !strings.ContainsAny(endpoint, "?#")
}

func validHeaders(list string) bool {
	headers, err := parsePairs(list)
	for name, value := range headers {
		if !headerName.MatchString(name) || value != "" && !printable.MatchString(value) {
			return false
		}
	}
	return err == nil
}

// parsePairs reads name=value pairs separated by commas, their values
// percent-encoded. Its error quotes none of them. The map is never nil.
func parsePairs(list string) (map[string]string, error) {
	pairs := map[string]string{}
	if strings.TrimSpace(list) == "" {
		return pairs, nil
	}
	for pair := range strings.SplitSeq(list, ",") {
		name, value, found := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !found || name == "" || err != nil {
			return pairs, errors.New("not name=value")
		}
		pairs[name] = strings.TrimSpace(value)
	}
	return pairs, nil
}
