package config

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTracing is what takes effect of OpenTelemetry's variables, as its
// specification's "OTLP Exporter" says.
func TestTracing(t *testing.T) {
	const (
		endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"
		traces   = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://traces.example"
	)
	changed := func(change func(*Tracing)) *Tracing {
		want := &Tracing{
			Endpoint: "http://collector:4318/v1/traces", Headers: map[string]string{}, Timeout: 10 * time.Second,
			Sampler: "parentbased_always_on", SampleRatio: 1, ResourceAttributes: map[string]string{"service.name": "callbackd"},
		}
		change(want)
		return want
	}
	for name, test := range map[string]struct {
		environ []string
		want    *Tracing
	}{
		"off by default":         {nil, nil},
		"off without endpoint":   {[]string{"OTEL_EXPORTER_OTLP_HEADERS=a=b", "OTEL_SERVICE_NAME=x"}, nil},
		"disabled":               {[]string{endpoint, "OTEL_SDK_DISABLED=true"}, nil},
		"no exporter":            {[]string{endpoint, "OTEL_TRACES_EXPORTER=none"}, nil},
		"endpoint alone":         {[]string{endpoint}, changed(func(*Tracing) {})},
		"endpoint with a path":   {[]string{endpoint + "/otlp/"}, changed(func(w *Tracing) { w.Endpoint = "http://collector:4318/otlp/v1/traces" })},
		"traces' endpoint alone": {[]string{traces}, changed(func(w *Tracing) { w.Endpoint = "https://traces.example" })},
		"traces' endpoint first": {[]string{endpoint, traces + "/in"}, changed(func(w *Tracing) { w.Endpoint = "https://traces.example/in" })},
		"traces' protocol first": {[]string{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf"}, changed(func(*Tracing) {})},
		"headers": {[]string{endpoint, "OTEL_EXPORTER_OTLP_HEADERS=api-key=a%20b, x = y=z "}, changed(func(w *Tracing) {
			w.Headers = map[string]string{"api-key": "a b", "x": "y=z"}
		})},
		"traces' headers first": {[]string{endpoint, "OTEL_EXPORTER_OTLP_HEADERS=a=b", "OTEL_EXPORTER_OTLP_TRACES_HEADERS=c=d"}, changed(func(w *Tracing) {
			w.Headers = map[string]string{"c": "d"}
		})},
		"traces' time-out first": {[]string{endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT=7", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=3000"}, changed(func(w *Tracing) {
			w.Timeout = 3 * time.Second
		})},
		"a tenth of the traces": {[]string{endpoint, "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.1"}, changed(func(w *Tracing) {
			w.Sampler, w.SampleRatio = "traceidratio", 0.1
		})},
		"an argument for another sampler": {[]string{endpoint, "OTEL_TRACES_SAMPLER=always_off", "OTEL_TRACES_SAMPLER_ARG=endpoint=x"}, changed(func(w *Tracing) {
			w.Sampler, w.SampleRatio = "always_off", 0
		})},
		"attributes": {[]string{endpoint, "OTEL_RESOURCE_ATTRIBUTES=service.name=kyc,team=a%2Cb"}, changed(func(w *Tracing) {
			w.ResourceAttributes = map[string]string{"service.name": "kyc", "team": "a,b"}
		})},
		"service name first": {[]string{endpoint, "OTEL_RESOURCE_ATTRIBUTES=service.name=kyc", "OTEL_SERVICE_NAME=callbacks"}, changed(func(w *Tracing) {
			w.ResourceAttributes = map[string]string{"service.name": "callbacks"}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Load(with(test.environ...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, c.Tracing()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestUnsupportedProtocol: the line names what is supported.
func TestUnsupportedProtocol(t *testing.T) {
	want := `OTEL_EXPORTER_OTLP_PROTOCOL is "grpc", want http/protobuf, the only protocol supported (most collectors take it on port 4318)`
	if diff := cmp.Diff([]string{want}, lines(t, with("OTEL_EXPORTER_OTLP_PROTOCOL=grpc"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSamplerArgument is judged only where it means something.
func TestSamplerArgument(t *testing.T) {
	got := map[string]int{}
	for _, sampler := range []string{"traceidratio", "parentbased_traceidratio", "always_on"} {
		for _, arg := range []string{"0", "1", "0.001", "1.1", "-0.1", "NaN", "all"} {
			got[sampler+" "+arg] = len(lines(t, with("OTEL_TRACES_SAMPLER="+sampler, "OTEL_TRACES_SAMPLER_ARG="+arg)))
		}
	}
	want := maps.Clone(got)
	for key := range want {
		want[key] = 0
	}
	for _, sampler := range []string{"traceidratio", "parentbased_traceidratio"} {
		for _, arg := range []string{"1.1", "-0.1", "NaN", "all"} {
			want[sampler+" "+arg] = 1
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
