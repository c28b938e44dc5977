package jumio

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWorkflowHrefAccepted(t *testing.T) {
	cfg := testConfig("http://127.0.0.1:8099")
	cfg.DataCenter = map[string]Credentials{"me-1": testCredentials}
	c := newClient(t, cfg)
	tests := map[string]struct {
		href string
		want Workflow
	}{
		"the guide's own example": {
			"https://retrieval.apac-1.jumio.ai/api/v1/accounts/" + accountID + "/workflow-executions/" + workflowID,
			Workflow{"apac-1", accountID, workflowID},
		},
		"short form": {
			"https://retrieval.amer-1.jumio.ai/api/v1/workflow-executions/" + workflowID,
			Workflow{"amer-1", "", workflowID},
		},
		"data center with credentials of its own": {
			"https://retrieval.me-1.jumio.ai/api/v1/workflow-executions/" + workflowID,
			Workflow{"me-1", "", workflowID},
		},
		"configured endpoint": {
			"http://127.0.0.1:8099/api/v1/workflow-executions/" + workflowID,
			Workflow{"", "", workflowID},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := c.ParseWorkflowHref(tt.href)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAccountHref(t *testing.T) {
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	dc, id, err := c.ParseAccountHref("https://retrieval.emea-1.jumio.ai/api/v1/accounts/" + accountID)
	if err != nil || dc != "emea-1" || id != accountID {
		t.Errorf("got %q, %q, %v", dc, id, err)
	}
	for _, href := range []string{
		"https://retrieval.emea-1.jumio.ai/api/v1/accounts/",
		"https://retrieval.emea-1.jumio.ai/api/v1/accounts/" + accountID + "/workflow-executions/" + workflowID,
		"https://evil.example/api/v1/accounts/" + accountID,
	} {
		if _, _, err := c.ParseAccountHref(href); !errors.Is(err, ErrForeignHref) {
			t.Errorf("%s: got %v", href, err)
		}
	}
}

const goodPath = "/api/v1/workflow-executions/" + workflowID

// refusedHrefs is the table of refusals, and the seed of the fuzz target.
var refusedHrefs = map[string]string{
	"empty":                     "",
	"no scheme":                 "retrieval.amer-1.jumio.ai" + goodPath,
	"scheme-relative":           "//retrieval.amer-1.jumio.ai" + goodPath,
	"plain http":                "http://retrieval.amer-1.jumio.ai" + goodPath,
	"upper-case scheme":         "HTTPS://retrieval.amer-1.jumio.ai" + goodPath,
	"user information":          "https://a@retrieval.amer-1.jumio.ai" + goodPath,
	"user and password":         "https://a:b@retrieval.amer-1.jumio.ai" + goodPath,
	"host as user information":  "https://retrieval.amer-1.jumio.ai@evil.example" + goodPath,
	"default port":              "https://retrieval.amer-1.jumio.ai:443" + goodPath,
	"another port":              "https://retrieval.amer-1.jumio.ai:8443" + goodPath,
	"empty port":                "https://retrieval.amer-1.jumio.ai:" + goodPath,
	"upper-case host":           "https://Retrieval.AMER-1.jumio.ai" + goodPath,
	"trailing dot":              "https://retrieval.amer-1.jumio.ai." + goodPath,
	"look-alike suffix":         "https://retrieval.amer-1.jumio.ai.evil.example" + goodPath,
	"look-alike top level":      "https://retrieval.amer-1.jumio.aievil" + goodPath,
	"look-alike prefix":         "https://xretrieval.amer-1.jumio.ai" + goodPath,
	"look-alike domain":         "https://retrieval.amer-1.notjumio.ai" + goodPath,
	"dot replaced":              "https://retrieval.amer-1.jumioXai" + goodPath,
	"two labels":                "https://retrieval.a.b.jumio.ai" + goodPath,
	"no label":                  "https://retrieval.jumio.ai" + goodPath,
	"empty label":               "https://retrieval..jumio.ai" + goodPath,
	"label begins with hyphen":  "https://retrieval.-amer.jumio.ai" + goodPath,
	"label ends with hyphen":    "https://retrieval.amer-.jumio.ai" + goodPath,
	"label too long":            "https://retrieval." + strings.Repeat("a", 64) + ".jumio.ai" + goodPath,
	"unknown data center":       "https://retrieval.evil.jumio.ai" + goodPath,
	"nearly a data center":      "https://retrieval.amer-10.jumio.ai" + goodPath,
	"IDN":                       "https://retrieval.ämer.jumio.ai" + goodPath,
	"another service":           "https://account.amer-1.jumio.ai" + goodPath,
	"address":                   "https://169.254.169.254" + goodPath,
	"backslash for slash":       `https://retrieval.amer-1.jumio.ai\api\v1\workflow-executions\` + workflowID,
	"backslash before host":     `https://evil.example\@retrieval.amer-1.jumio.ai` + goodPath,
	"query":                     "https://retrieval.amer-1.jumio.ai" + goodPath + "?a=b",
	"empty query":               "https://retrieval.amer-1.jumio.ai" + goodPath + "?",
	"fragment":                  "https://retrieval.amer-1.jumio.ai" + goodPath + "#a",
	"dot segments":              "https://retrieval.amer-1.jumio.ai/api/v1/accounts/../workflow-executions/" + workflowID,
	"dot segment as id":         "https://retrieval.amer-1.jumio.ai/api/v1/workflow-executions/..",
	"encoded dot segment":       "https://retrieval.amer-1.jumio.ai/api/v1/workflow-executions/%2e%2e",
	"encoded slash":             "https://retrieval.amer-1.jumio.ai/api/v1/workflow-executions/a%2Fb",
	"encoded backslash":         "https://retrieval.amer-1.jumio.ai/api/v1/workflow-executions/a%5cb",
	"encoded letter":            "https://retrieval.amer-1.jumio.ai/api/v1/workflow-executions/%61",
	"doubled slash":             "https://retrieval.amer-1.jumio.ai//api/v1/workflow-executions/" + workflowID,
	"trailing slash":            "https://retrieval.amer-1.jumio.ai" + goodPath + "/",
	"further segment":           "https://retrieval.amer-1.jumio.ai" + goodPath + "/status",
	"another path":              "https://retrieval.amer-1.jumio.ai/api/v2/workflow-executions/" + workflowID,
	"no path":                   "https://retrieval.amer-1.jumio.ai",
	"no id":                     "https://retrieval.amer-1.jumio.ai/api/v1/workflow-executions/",
	"id too long":               "https://retrieval.amer-1.jumio.ai/api/v1/workflow-executions/" + strings.Repeat("a", 65),
	"space before":              " https://retrieval.amer-1.jumio.ai" + goodPath,
	"line break behind":         "https://retrieval.amer-1.jumio.ai" + goodPath + "\n",
	"tab inside":                "https://retrieval.amer-1.\tjumio.ai" + goodPath,
	"NUL behind":                "https://retrieval.amer-1.jumio.ai" + goodPath + "\x00",
	"configured, wrong scheme":  "https://127.0.0.1:8099" + goodPath,
	"configured, no port":       "http://127.0.0.1" + goodPath,
	"configured, longer port":   "http://127.0.0.1:80990" + goodPath,
	"configured as user":        "http://127.0.0.1:8099@evil.example" + goodPath,
	"configured, with a dot":    "http://127.0.0.1:8099." + goodPath,
	"configured, dot segments":  "http://127.0.0.1:8099/api/v1/../v1/workflow-executions/" + workflowID,
	"configured under its name": "http://localhost:8099" + goodPath,
}

func TestHrefRefused(t *testing.T) {
	c := newClient(t, testConfig("http://127.0.0.1:8099"))
	for name, href := range refusedHrefs {
		t.Run(name, func(t *testing.T) {
			if w, err := c.ParseWorkflowHref(href); !errors.Is(err, ErrForeignHref) {
				t.Errorf("workflow href %q gave %+v, %v", href, w, err)
			}
			part := strings.Replace(href, "workflow-executions/"+workflowID, "accounts/a/credentials/b/parts/FRONT", 1)
			if p, err := c.parsePartHref(part); !errors.Is(err, ErrForeignHref) {
				t.Errorf("part href %q gave %+v, %v", part, p, err)
			}
		})
	}
}

func TestConfiguredHrefNeedsConfiguration(t *testing.T) {
	cfg := testConfig("http://127.0.0.1:8099")
	cfg.TokenURL, cfg.RetrievalURL = nil, nil
	if _, err := newClient(t, cfg).ParseWorkflowHref("http://127.0.0.1:8099" + goodPath); err == nil {
		t.Error("a loopback href was accepted by a client of Jumio's endpoints")
	}
}

// Whatever an href says: what is accepted is, byte for byte, the address that is
// built again from what was read, at a configured endpoint or at Jumio's, and
// net/url reads it no other way.
func FuzzHref(f *testing.F) {
	for _, href := range refusedHrefs {
		f.Add(href)
	}
	for _, origin := range []string{"https://retrieval.amer-1.jumio.ai", "http://127.0.0.1:8099"} {
		for _, path := range []string{
			goodPath, "/api/v1/accounts/a/workflow-executions/b", "/api/v1/accounts/a", "/api/v1/accounts/a/credentials/b/parts/FRONT",
		} {
			f.Add(origin + path)
		}
	}
	cfg := testConfig("http://127.0.0.1:8099")
	configured, err := New(cfg, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	cfg.TokenURL, cfg.RetrievalURL = nil, nil
	public, err := New(cfg, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	host := regexp.MustCompile(`^retrieval\.(amer|emea|apac)-1\.jumio\.ai$`)
	f.Fuzz(func(t *testing.T, href string) {
		for _, c := range []*Client{configured, public} {
			var rebuilt []string
			origin := func(dataCenter string) string {
				if dataCenter == "" && c == configured {
					return "http://127.0.0.1:8099"
				}
				return "https://retrieval." + dataCenter + ".jumio.ai"
			}
			if w, err := c.ParseWorkflowHref(href); err == nil {
				if target, err := c.cfg.target(w.DataCenter); err != nil || (c == public && target.retrievalOrigin != origin(w.DataCenter)) {
					t.Errorf("%q leads to %+v, %v", href, target, err)
				}
				account := ""
				if w.AccountID != "" {
					account = "/accounts/" + w.AccountID
				}
				rebuilt = append(rebuilt, origin(w.DataCenter)+"/api/v1"+account+"/workflow-executions/"+w.ID)
			}
			if dataCenter, id, err := c.ParseAccountHref(href); err == nil {
				rebuilt = append(rebuilt, origin(dataCenter)+"/api/v1/accounts/"+id)
			}
			if p, err := c.parsePartHref(href); err == nil {
				dataCenter, _, err := c.splitHref(href)
				if err != nil {
					t.Fatal(err)
				}
				rebuilt = append(rebuilt, origin(dataCenter)+"/api/v1/accounts/"+p.AccountID+"/credentials/"+p.CredentialID+"/parts/"+p.Classifier)
			}
			if len(rebuilt) > 1 {
				t.Errorf("%q is read in several ways: %q", href, rebuilt)
			}
			for _, address := range rebuilt {
				u, err := url.Parse(href)
				if err != nil || address != href || u.User != nil || u.RawQuery != "" || u.EscapedPath() != u.Path {
					t.Fatalf("%q is read as %q, by net/url as %+v, %v", href, address, u, err)
				}
				if own := c == configured && u.Host == "127.0.0.1:8099"; !own && (u.Scheme != "https" || !host.MatchString(u.Host)) {
					t.Errorf("%q is accepted", href)
				}
			}
		}
	})
}
