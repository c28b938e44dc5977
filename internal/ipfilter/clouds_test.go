package ipfilter

import (
	"os"
	"strings"
	"testing"
)

// What load balancers write, with the trusted proxies that deploy/load-balancers.md
// names for each.
func TestLoadBalancers(t *testing.T) {
	const (
		client     = "203.0.113.7"
		alb        = "10.0.1.0/24,10.0.2.0/24"
		google     = "130.211.0.0/22,35.191.0.0/16,203.0.113.80"
		regional   = "10.129.0.0/23,203.0.113.80"
		gateway    = "10.1.0.0/24"
		cloudflare = alb + ",173.245.48.0/20,103.21.244.0/22,103.22.200.0/22,103.31.4.0/22,141.101.64.0/18,108.162.192.0/18,190.93.240.0/20,188.114.96.0/20,197.234.240.0/22,198.41.128.0/17,162.158.0.0/15,104.16.0.0/13,104.24.0.0/14,172.64.0.0/13,131.0.72.0/22,2400:cb00::/32,2606:4700::/32,2803:f800::/32,2405:b500::/32,2405:8100::/32,2a06:98c0::/29,2c0f:f248::/32"
		pods       = "10.244.0.0/16"
		none       = ""
	)
	tests := []struct {
		name    string
		trusted string
		peer    string
		header  string
		want    string
	}{
		{"AWS ALB", alb, "10.0.1.17", jumio, jumio},
		{"AWS ALB, another zone", alb, "10.0.2.17", jumio, jumio},
		{"AWS ALB with client ports", alb, "10.0.1.17", jumio + ":47388", jumio},
		{"AWS ALB, IPv6", alb, "10.0.1.17", "2001:db8:85a3::8a2e:370:7334", "2001:db8:85a3::8a2e:370:7334"},
		{"AWS ALB, IPv6 with client ports", alb, "10.0.1.17", "[2001:db8:85a3::8a2e:370:7334]:47388", "2001:db8:85a3::8a2e:370:7334"},
		{"AWS ALB, forged", alb, "10.0.1.17", jumio + ", " + client, client},
		{"AWS ALB, forged with ports", alb, "10.0.1.17", jumio + ":1, " + client + ":47388", client},
		{"AWS ALB, xff_header_processing.mode=remove", alb, "10.0.1.17", none, none},
		{"AWS ALB, undeclared", "10.0.9.0/24", "10.0.1.17", jumio, "10.0.1.17"},
		{"AWS NLB that preserves the client's address", none, jumio, none, jumio},

		{"Google", google, "130.211.0.5", jumio + ",203.0.113.80", jumio},
		{"Google, other range, with a blank", google, "35.191.12.9", jumio + ", 203.0.113.80", jumio},
		{"Google, forged", google, "35.191.12.9", jumio + "," + client + ",203.0.113.80", client},
		{"Google, forged with the balancer's address", google, "35.191.12.9", jumio + ",203.0.113.80," + client + ",203.0.113.80", client},
		{"Google, its own address undeclared", "130.211.0.0/22,35.191.0.0/16", "35.191.12.9", jumio + ",203.0.113.80", "203.0.113.80"},
		{"Google, regional", regional, "10.129.0.14", jumio + ",203.0.113.80", jumio},

		{"Azure Application Gateway", gateway, "10.1.0.5", jumio + ":52130", jumio},
		{"Azure Application Gateway, IPv6", gateway, "10.1.0.5", "[2001:db8::7]:52130", "2001:db8::7"},
		{"Azure Application Gateway, forged", gateway, "10.1.0.5", jumio + ", " + client + ":52130", client},
		{"Azure Application Gateway, forged with a port", gateway, "10.1.0.5", jumio + ":443, " + client + ":52130", client},

		{"Cloudflare before an ALB", cloudflare, "10.0.1.17", jumio + ", 172.68.34.5", jumio},
		{"Cloudflare before an ALB, IPv6", cloudflare, "10.0.1.17", jumio + ", 2400:cb00:72:1024::ac44:2205", jumio},
		{"Cloudflare before an ALB, forged", cloudflare, "10.0.1.17", jumio + "," + client + ", 172.68.34.5", client},
		{"past Cloudflare, forged", cloudflare, "10.0.1.17", jumio + ",172.68.34.5, " + client, client},
		{"Cloudflare, its ranges undeclared", alb, "10.0.1.17", jumio + ", 172.68.34.5", "172.68.34.5"},
		{"a caller within Cloudflare's ranges", cloudflare, "10.0.1.17", "2a06:98c0:3600::103, 172.68.34.5", none},

		{"ingress-nginx, externalTrafficPolicy: Local", pods, "10.244.3.7", jumio, jumio},
		{"ingress-nginx, externalTrafficPolicy: Cluster", pods, "10.244.3.7", "10.10.0.4", "10.10.0.4"},
		{"ingress-nginx behind an ALB", alb + "," + pods, "10.244.3.7", jumio + ", 10.0.1.17", jumio},
		{"ingress-nginx behind an ALB, forged", alb + "," + pods, "10.244.3.7", jumio + ", " + client + ", 10.0.1.17", client},
		{"ingress-nginx behind an undeclared ALB", pods, "10.244.3.7", jumio + ", 10.0.1.17", "10.0.1.17"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var trusted []string
			for cidr := range strings.SplitSeq(tt.trusted, ",") {
				switch {
				case cidr == "":
				case strings.Contains(cidr, "/"):
					trusted = append(trusted, cidr)
				default:
					trusted = append(trusted, cidr+"/32")
				}
			}
			c, err := newClientResolver("", prefixes(t, trusted...))
			if err != nil {
				t.Fatal(err)
			}
			r := request(tt.peer + ":40000")
			if tt.header != "" {
				r.Header.Set("X-Forwarded-For", tt.header)
			}
			_, addr, detail := c.resolve(r)
			got := ""
			if addr.IsValid() {
				got = addr.String()
			}
			if got != tt.want {
				t.Errorf("got %q (%s), want %q", got, detail, tt.want)
			}
		})
	}

	docs, err := os.ReadFile("../../deploy/load-balancers.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, trusted := range []string{alb, google, regional, gateway, cloudflare, pods} {
		if !strings.Contains(string(docs), "\nCALLBACKD_TRUSTED_PROXIES="+trusted+"\n") {
			t.Errorf("deploy/load-balancers.md does not name %s", trusted)
		}
	}
}
