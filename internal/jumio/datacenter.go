package jumio

import (
	"maps"
	"slices"
)

// dataCenters are in the order of the guide's "Access Token URL".
var dataCenters = []string{"amer-1", "emea-1", "apac-1"}

// DataCenters gives the labels of Jumio's data centers, as in its host names (guide,
// "Access Token URL").
func DataCenters() []string { return slices.Clone(dataCenters) }

// trusts tells whether a data center may get credentials: one of Jumio's, or a
// configured one. A callback's href may name any label.
func (cfg *Config) trusts(dataCenter string) bool {
	_, configured := cfg.DataCenter[dataCenter]
	return configured || slices.Contains(dataCenters, dataCenter)
}

// CredentialedDataCenters gives the labels of the data centers that there are credentials
// for, wherever their requests go: Jumio's in the guide's order, then others by name.
func (c *Client) CredentialedDataCenters() []string {
	return slices.DeleteFunc(c.cfg.labels(), func(label string) bool {
		_, own := c.cfg.DataCenter[label]
		return !own && c.cfg.Credentials == (Credentials{})
	})
}

// labels are Jumio's data centers and the configured ones.
func (cfg *Config) labels() []string {
	labels := DataCenters()
	for _, label := range slices.Sorted(maps.Keys(cfg.DataCenter)) {
		if !slices.Contains(labels, label) {
			labels = append(labels, label)
		}
	}
	return labels
}

// KnownDataCenters gives the data centers that the client has credentials for:
// Jumio's in the guide's order, then others by name. The default credentials
// are for all of Jumio's. If several share an endpoint and credentials, as with a
// configured RetrievalURL, only the first is listed; "" is a configured endpoint with
// the default credentials.
func (c *Client) KnownDataCenters() []string {
	type place struct {
		origin      string
		credentials Credentials
	}
	labels := c.cfg.labels()
	if c.retrieval != "" {
		labels = slices.Insert(labels, 0, "")
	}
	seen := map[place]bool{}
	return slices.DeleteFunc(labels, func(label string) bool {
		t, err := c.cfg.target(label)
		p := place{t.retrievalOrigin, t.credentials}
		if err != nil || seen[p] {
			return true
		}
		seen[p] = true
		return false
	})
}
