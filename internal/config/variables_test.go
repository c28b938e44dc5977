package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEffective shows all settings in order and no secret.
func TestEffective(t *testing.T) {
	c, err := Load(with(
		"CALLBACKD_CALLBACK_PATH=/hunter4", "CALLBACKD_USER_REFERENCE_KEY=hunter5", "CALLBACKD_WORKERS=2",
		"JUMIO_CLIENT_ID_EMEA_1=ie", "JUMIO_CLIENT_SECRET_EMEA_1=hunter6",
		"JUMIO_CLIENT_ID_AMER_1=ia", "JUMIO_CLIENT_SECRET_AMER_1=hunter7",
		"CALLBACKD_ALLOWED_CIDRS=192.0.2.1,\n192.0.2.2",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS=api-key=hunter8",
		"CALLBACKD_PUBLIC_CALLBACK_URL=https://callbacks.example/hunter9",
	))
	if err != nil {
		t.Fatal(err)
	}
	want := `DATABASE_URL=host=db.example port=5432 dbname=callbackd user=app password=[redacted]
CALLBACKD_LISTEN=:8080
CALLBACKD_ADMIN_LISTEN=127.0.0.1:9090
CALLBACKD_CALLBACK_PATH=[redacted]
CALLBACKD_TRUSTED_PROXIES=
CALLBACKD_CLIENT_IP_HEADER=X-Forwarded-For
CALLBACKD_PROXY_PROTOCOL=false
CALLBACKD_ALLOWED_CIDRS="192.0.2.1,\n192.0.2.2"
CALLBACKD_JUMIO_IPS=us,eu,sg
CALLBACKD_JUMIO_HOSTS=callback.jumio.com,callback.lon.jumio.com,callback.core-sgp.jumio.com,callback.amer-1.jumio.ai,callback.emea-1.jumio.ai,callback.apac-1.jumio.ai
CALLBACKD_DNS_SERVER=
CALLBACKD_DNS_REFRESH=5m
CALLBACKD_DNS_GRACE=24h
CALLBACKD_MAX_BODY_BYTES=1048576
CALLBACKD_STORE_TIMEOUT=5s
CALLBACKD_SPOOL_DIR=
CALLBACKD_SPOOL_MAX_BYTES=1073741824
CALLBACKD_USER_REFERENCE_KEY=[redacted]
CALLBACKD_REJECTED_PER_HOUR=600
CALLBACKD_RECEIVE=true
CALLBACKD_MIGRATE_ON_START=false
CALLBACKD_WORKERS=2
CALLBACKD_RETRIEVAL_DELAYS=0s,40s,60s,100s,160s,240s,340s,460s,600s,760s
CALLBACKD_RETRIEVAL_RPS=10
CALLBACKD_MAX_IMAGE_BYTES=20971520
CALLBACKD_SHUTDOWN_TIMEOUT=25s
CALLBACKD_LOG_LEVEL=info
CALLBACKD_LOG_FORMAT=json
JUMIO_CLIENT_ID=client
JUMIO_CLIENT_SECRET=[redacted]
JUMIO_CLIENT_ID_AMER_1=ia
JUMIO_CLIENT_SECRET_AMER_1=[redacted]
JUMIO_CLIENT_ID_EMEA_1=ie
JUMIO_CLIENT_SECRET_EMEA_1=[redacted]
JUMIO_AUTH=oauth2
JUMIO_USER_AGENT=Acme Onboarding/v1.0
JUMIO_TOKEN_URL=
JUMIO_RETRIEVAL_URL=
JUMIO_ACCOUNT_URL=
JUMIO_API_URL=
JUMIO_STATUS_URL=
JUMIO_DATA_CENTER=
CALLBACKD_PUBLIC_CALLBACK_URL=[redacted]
CALLBACKD_SESSION_TIMEOUT=15m
CALLBACKD_RECONCILE_GRACE=5m
CALLBACKD_RECONCILE_DELAYS=0s,5m,15m,1h,3h,6h,12h,24h
CALLBACKD_JUMIO_HEALTH_INTERVAL=1m
CALLBACKD_ERASURE_KEY=
CALLBACKD_IMAGE_STORE=
CALLBACKD_IMAGE_STORE_ACCESS_KEY=
CALLBACKD_IMAGE_STORE_SECRET_KEY=
CALLBACKD_IMAGE_RECIPIENTS=
CALLBACKD_IMAGE_IDENTITY=
CALLBACKD_RETENTION=
OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=
OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=
OTEL_EXPORTER_OTLP_HEADERS=[redacted]
OTEL_EXPORTER_OTLP_TRACES_HEADERS=
OTEL_EXPORTER_OTLP_TIMEOUT=10000
OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=
OTEL_TRACES_EXPORTER=otlp
OTEL_TRACES_SAMPLER=parentbased_always_on
OTEL_TRACES_SAMPLER_ARG=
OTEL_SERVICE_NAME=
OTEL_RESOURCE_ATTRIBUTES=
OTEL_SDK_DISABLED=false`
	got := strings.Join(c.Effective(), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("effective configuration differs (-want +got):\n%s", diff)
	}
	if strings.Contains(got, "hunter") {
		t.Error("a secret is shown")
	}
}

// TestVariables: every variable says what it means and what is right; the
// secret ones and the required ones are those of the contract.
func TestVariables(t *testing.T) {
	var secret, required []string
	for _, v := range Variables() {
		if v.Meaning == "" || v.want == "" {
			t.Errorf("%s has no meaning or no right value", v.Name)
		}
		if v.Secret {
			secret = append(secret, v.Name)
		}
		if v.Required != "" {
			required = append(required, v.Name+" "+v.Required)
		}
		if !strings.Contains(Usage(), "  "+v.Name) {
			t.Errorf("Usage lacks %s", v.Name)
		}
	}
	wantSecret := []string{"DATABASE_URL", "CALLBACKD_CALLBACK_PATH", "CALLBACKD_USER_REFERENCE_KEY", "JUMIO_CLIENT_SECRET", "CALLBACKD_PUBLIC_CALLBACK_URL", "CALLBACKD_ERASURE_KEY", "CALLBACKD_IMAGE_STORE_ACCESS_KEY", "CALLBACKD_IMAGE_STORE_SECRET_KEY", "CALLBACKD_IMAGE_IDENTITY", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}
	if diff := cmp.Diff(wantSecret, secret); diff != "" {
		t.Errorf("secret variables: %s", diff)
	}
	wantRequired := []string{"DATABASE_URL always", "JUMIO_CLIENT_ID with workers", "JUMIO_CLIENT_SECRET with workers", "JUMIO_USER_AGENT with workers"}
	if diff := cmp.Diff(wantRequired, required); diff != "" {
		t.Errorf("required variables: %s", diff)
	}
}
