package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

const (
	clientID     = "JUMIO_CLIENT_ID"
	clientSecret = "JUMIO_CLIENT_SECRET" //nolint:gosec // a variable's name, no secret
	fileSuffix   = "_FILE"
)

// dataCenterName matches the variables of one data center. AMER_1 is amer-1.
var dataCenterName = regexp.MustCompile(`^(JUMIO_CLIENT_ID|JUMIO_CLIENT_SECRET)_([A-Z0-9]+(?:_[A-Z0-9]+)*)$`)

// serviceLink matches what Kubernetes sets in every pod beside a Service whose
// name begins with callbackd.
var serviceLink = regexp.MustCompile(`^CALLBACKD(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// serviceAddress matches the value of Kubernetes' CALLBACKD_PORT=tcp://10.0.0.1:80.
var serviceAddress = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// dataCenterVariable returns the general variable that name overrides for one data
// center, or "".
func dataCenterVariable(name string) string {
	if m := dataCenterName.FindStringSubmatch(name); m != nil && m[2] != "FILE" {
		return m[1]
	}
	return ""
}

// environmentForm turns amer-1 into AMER_1.
func environmentForm(dataCenter string) string {
	return strings.ReplaceAll(strings.ToUpper(dataCenter), "-", "_")
}

// hostForm turns AMER_1 into amer-1.
func hostForm(environmentForm string) string {
	return strings.ReplaceAll(strings.ToLower(environmentForm), "_", "-")
}

// resolve returns the values of the known variables. It reads files, and trims blanks
// around whatever is not a secret. An empty variable counts as unset.
func resolve(environ []string, p *problems) map[string]string {
	values := map[string]string{}
	all := env.ToMap(environ)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		name, isFile := strings.CutSuffix(key, fileSuffix)
		v, known := variable(name)
		if !known || all[key] == "" {
			continue
		}
		value := all[key]
		if isFile {
			if all[name] != "" {
				p.say(name, "is set twice, also as "+key+", want only one")
				continue
			}
			var err error
			if value, err = readFile(value); err != nil {
				p.say(name, "cannot be read from the file that "+key+" names"+fileDetail(v, all[key], err)+", want a readable file that holds "+v.want)
				continue
			}
		}
		if !v.Secret {
			value = strings.TrimSpace(value)
		}
		values[name] = value
	}
	return values
}

func readFile(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	value := strings.TrimRight(string(content), "\r\n")
	if value == "" {
		return "", errors.New("it is empty")
	}
	return value, nil
}

// fileDetail says which file and why. It leaves out the path of a secret's file,
// because somebody may have put the secret itself there.
func fileDetail(v Variable, path string, err error) string {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathError.Err
	}
	if v.Secret {
		return fmt.Sprintf(" (%v)", err)
	}
	return fmt.Sprintf(", %s (%v)", quote(path), err)
}

// addUnknown reports names that are probably misspelt: every unknown one that begins
// with CALLBACKD_, and one that begins with JUMIO_ if it resembles one of ours (the
// rest may belong to other programs). Values are never shown.
func (p *problems) addUnknown(environ []string) {
	all := env.ToMap(environ)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		name := strings.TrimSuffix(key, fileSuffix)
		if _, known := variable(name); known {
			continue
		}
		switch nearest := nearestName(name); {
		case strings.HasPrefix(name, "CALLBACKD_"):
			if serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && serviceAddress.MatchString(all[key]) {
				continue
			}
			if nearest == "" {
				p.say(name, "is unknown, want a name that `callbackd serve --help` lists")
			} else {
				p.say(name, "is unknown, did you mean "+nearest+"?")
			}
		case strings.HasPrefix(name, clientID+"_"), strings.HasPrefix(name, clientSecret+"_"):
			p.say(name, "is unknown, want the data center in upper case, such as "+clientID+"_AMER_1")
		case strings.HasPrefix(name, "JUMIO_") && nearest != "":
			p.say(name, "is unknown, did you mean "+nearest+"?")
		}
	}
}

// nearestName returns the known name that name was probably meant to be, or "". One of
// the other names with the prefix CALLBACKD_ is near too.
func nearestName(name string) string {
	best, bestDistance := "", max(2, len(name)/6)+1
	for _, v := range Variables() {
		d := min(distance(name, v.Name), distance(strings.TrimPrefix(name, "CALLBACKD_"), v.Name))
		if d < bestDistance {
			best, bestDistance = v.Name, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two ASCII strings.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
