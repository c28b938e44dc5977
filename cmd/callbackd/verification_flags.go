package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"callbackd/internal/jumio"
)

// createFlags are the flags of `verification create`.
type createFlags struct {
	accountID, dataCenter, body string
	web, sdk                    bool

	key         int64
	credentials []any
	// texts are the other parameters.
	texts [len(textFlags)]string
}

// textFlags are the flags whose value is a text of the request, by the guide's name.
var textFlags = [...]struct{ flag, parameter, usage string }{
	{"customer-internal-reference", "customerInternalReference", "your reference of this verification, without personal data: 1 to 100 characters without < > \" / ; % and the backtick (required)"},
	{"user-reference", "userReference", "your reference of the person, without personal data: at most 100 characters, 77 if it is signed"},
	{"reporting-criteria", "reportingCriteria", "for searching in Jumio's portal: at most 255 characters"},
	{"callback-url", "callbackUrl", "where Jumio posts its callbacks: at most 255 characters (default: CALLBACKD_PUBLIC_CALLBACK_URL)"},
	{"token-lifetime", "tokenLifetime", "how long the person may take to begin, 5m to 60d, in s, m, h or d such as 1d (default: what Jumio's portal says, 30m)"},
	{"success-url", "web.successUrl", "where the web journey ends after success: at most 255 characters"},
	{"error-url", "web.errorUrl", "where the web journey ends after an error: at most 255 characters"},
	{"locale", "web.locale", "language of the web journey, such as en or pt-BR"},
}

func (f *createFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.accountID, "account-id", "", "start a further workflow execution in this account")
	flags.StringVar(&f.dataCenter, "data-center", "", strings.Join(jumio.DataCenters(), ", ")+" (default: JUMIO_DATA_CENTER)")
	flags.StringVar(&f.body, "body", "", "`FILE` with the guide's whole JSON, or - for stdin, instead of the parameters below")
	flags.BoolVar(&f.web, "web", false, "print only web.href, the link for the person")
	flags.BoolVar(&f.sdk, "sdk", false, "print only sdk.token")

	flags.Func("key", "`KEY` of the workflow definition, such as 3 (required)", func(text string) (err error) {
		if f.key, err = strconv.ParseInt(text, 10, 64); err != nil {
			return errors.New("want a whole number such as 3")
		}
		return nil
	})
	flags.Func("credential", "`CATEGORY[:COUNTRY,...[:TYPE,...]]` of a credential to ask for, such as ID:AUT,DEU:PASSPORT or FACEMAP::JUMIO_STANDARD; can be repeated (default: the definition's own)", f.addCredential)
	for i, t := range textFlags {
		flags.StringVar(&f.texts[i], t.flag, "", t.usage)
	}
}

func (f *createFlags) addCredential(text string) error {
	credential, err := parseCredential(text)
	f.credentials = append(f.credentials, credential)
	return err
}

// parseCredential reads CATEGORY[:COUNTRY,…[:TYPE,…]] as an element of
// workflowDefinition.credentials. The countries may be empty.
func parseCredential(text string) (map[string]any, error) {
	fields := strings.Split(text, ":")
	if len(fields) > 3 || fields[0] == "" {
		return nil, errors.New("want CATEGORY[:COUNTRY,...[:TYPE,...]]")
	}
	credential := map[string]any{"category": fields[0]}
	for i, name := range []string{"country", "type"} {
		if len(fields) <= i+1 || name == "country" && fields[i+1] == "" {
			continue
		}
		values := strings.Split(fields[i+1], ",")
		if slices.Contains(values, "") {
			return nil, fmt.Errorf("a %s is empty", name)
		}
		credential[name] = map[string]any{"values": values}
	}
	return credential, nil
}

// read gives the request that flags or the body describe. Every error is wrong usage but
// for a body that cannot be read.
func (f *createFlags) read(c *cobra.Command, p *process) (jumio.Initiation, error) {
	if f.web && f.sdk {
		return nil, wrongUsage(c, errors.New("--web goes without --sdk"))
	}
	if c.Flags().Changed("body") {
		for _, name := range f.parameters() {
			if c.Flags().Changed(name) {
				return nil, wrongUsage(c, fmt.Errorf("--%s goes without --body", name))
			}
		}
		body, err := readInput(p, f.body)
		if err != nil {
			return nil, err
		}
		initiation, err := jumio.ParseInitiation(body)
		if err != nil {
			return nil, wrongUsage(c, fmt.Errorf("--body: %w", err))
		}
		return initiation, nil
	}
	body, err := json.Marshal(f.request(c))
	if err != nil {
		return nil, err
	}
	for i, t := range textFlags {
		if !utf8.ValidString(f.texts[i]) {
			return nil, wrongUsage(c, fmt.Errorf("--%s: it is not valid UTF-8", t.flag))
		}
	}
	return jumio.ParseInitiation(body)
}

// parameters are the flags that --body replaces.
func (f *createFlags) parameters() []string {
	names := []string{"key", "credential"}
	for _, t := range textFlags {
		names = append(names, t.flag)
	}
	return names
}

// request gives the guide's JSON object, with the parameters that have been set.
func (f *createFlags) request(c *cobra.Command) map[string]any {
	flags, definition := c.Flags(), map[string]any{}
	if flags.Changed("key") {
		definition["key"] = f.key
	}
	if f.credentials != nil {
		definition["credentials"] = f.credentials
	}
	request, web := map[string]any{"workflowDefinition": definition}, map[string]any{}
	for i, t := range textFlags {
		if !flags.Changed(t.flag) {
			continue
		}
		if name, isWeb := strings.CutPrefix(t.parameter, "web."); isWeb {
			web[name] = f.texts[i]
			request["web"] = web
		} else {
			request[t.parameter] = f.texts[i]
		}
	}
	return request
}
