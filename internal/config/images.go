package config

import (
	"errors"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"filippo.io/age"
)

const (
	imageAccessKey = "CALLBACKD_IMAGE_STORE_ACCESS_KEY"
	imageSecretKey = "CALLBACKD_IMAGE_STORE_SECRET_KEY"
)

// ImageStore is where images are stored outside the database: a directory or an S3
// bucket.
type ImageStore struct {
	// Directory is absolute and clean; empty for S3.
	Directory string
	Bucket    string
	// Prefix begins the names of all objects; empty, or ends with a slash.
	Prefix string
	// Endpoint is scheme and host of the S3 server; nil for AWS.
	Endpoint *url.URL
	// Region is empty for the bucket's own at AWS, and us-east-1 elsewhere.
	Region string
	// PathStyle says whether the bucket stands in the path or in the host name: "true",
	// "false", or empty for what the endpoint is known to want.
	PathStyle string
}

var (
	// bucketName is AWS' rule for buckets ("General purpose bucket naming rules").
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	// safeSegment leaves out what S3 advises against in names of objects.
	safeSegment = regexp.MustCompile(`^[A-Za-z0-9!_.*'()-]+$`)
	regionName  = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// parseImageStore reads s3://BUCKET[/PREFIX][?…] or file:///DIRECTORY.
func parseImageStore(value string) (any, error) {
	u, err := url.Parse(value)
	if err != nil || u.User != nil || u.Fragment != "" {
		return nil, errors.New("not a URL of an image store")
	}
	switch u.Scheme {
	case "file":
		dir := path.Clean(u.Path)
		if u.Host != "" || u.RawQuery != "" || !path.IsAbs(u.Path) || dir == "/" {
			return nil, errors.New("not a directory's URL")
		}
		return ImageStore{Directory: dir}, nil
	case "s3":
		return parseBucket(u)
	}
	return nil, errors.New("neither s3 nor file")
}

func parseBucket(u *url.URL) (any, error) {
	s := ImageStore{Bucket: u.Host}
	if prefix := strings.Trim(u.Path, "/"); prefix != "" {
		for segment := range strings.SplitSeq(prefix, "/") {
			if !safeSegment.MatchString(segment) || segment == "." || segment == ".." {
				return nil, errors.New("the prefix has unusual characters")
			}
		}
		s.Prefix = prefix + "/"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || !bucketName.MatchString(u.Host) {
		return nil, errors.New("not a bucket's URL")
	}
	for name, values := range query {
		if len(values) != 1 || values[0] == "" {
			return nil, errors.New("a parameter is empty or repeated")
		}
		switch value := values[0]; name {
		case "endpoint":
			endpoint, err := parseEndpoint(value)
			if err != nil {
				return nil, err
			}
			parsed, _ := endpoint.(url.URL)
			s.Endpoint = &parsed
		case "region":
			if !regionName.MatchString(value) {
				return nil, errors.New("not a region")
			}
			s.Region = value
		case "path-style":
			if !slices.Contains([]string{"true", "false"}, value) {
				return nil, errors.New("path-style is true or false")
			}
			s.PathStyle = value
		default:
			return nil, errors.New("an unknown parameter")
		}
	}
	return s, nil
}

// checkImageKeys wants both keys of S3, or none.
func (c *Config) checkImageKeys(p *problems) {
	switch {
	case p.only(imageAccessKey) != nil || p.only(imageSecretKey) != nil:
	case c.ImageStoreAccessKey != "" && c.ImageStoreSecretKey == "":
		p.say(imageSecretKey, missing(imageSecretKey)+", or "+imageAccessKey+" empty")
	case c.ImageStoreAccessKey == "" && c.ImageStoreSecretKey != "":
		p.say(imageAccessKey, missing(imageAccessKey)+", or "+imageSecretKey+" empty")
	}
}

// Recipients are those of ImageRecipients; none means no encryption.
func (c *Config) Recipients() []age.Recipient {
	recipients, _ := parseRecipients(c.ImageRecipients) // checked by Load
	return recipients
}

// Identities are those of ImageIdentity.
func (c *Config) Identities() []age.Identity {
	identities, _ := age.ParseIdentities(strings.NewReader(ageKeys(c.ImageIdentity))) // checked by Load
	return identities
}

// parseRecipients reads age public keys that one file can be encrypted to: post-quantum
// keys do not go with others.
func parseRecipients(text string) ([]age.Recipient, error) {
	recipients, err := age.ParseRecipients(strings.NewReader(ageKeys(text)))
	if err == nil {
		_, err = age.EncryptReader(strings.NewReader(""), recipients...)
	}
	return recipients, err
}

func validRecipients(text string) bool {
	_, err := parseRecipients(text)
	return err == nil
}

func validIdentity(text string) bool {
	_, err := age.ParseIdentities(strings.NewReader(ageKeys(text)))
	return err == nil
}

// ageKeys turns keys separated by commas or lines into lines, as age reads them, without
// comments.
func ageKeys(text string) string {
	var keys []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for key := range strings.SplitSeq(line, ",") {
			if key = strings.TrimSpace(key); key != "" {
				keys = append(keys, key)
			}
		}
	}
	return strings.Join(keys, "\n")
}

// Images returns the settings that a command needs to reach stored images: DATABASE_URL
// and those that begin with CALLBACKD_IMAGE_. It ignores the rest. Its error is an
// [*Error].
func Images(environ []string) (*Config, error) {
	c, p := read(environ)
	c.checkImageKeys(p)
	if c.DatabaseURL == "" {
		p.say("DATABASE_URL", missing("DATABASE_URL"))
	}
	return c, p.among(func(name string) bool { return name == "DATABASE_URL" || strings.HasPrefix(name, "CALLBACKD_IMAGE_") })
}
