package config

import (
	"strings"
	"testing"

	"filippo.io/age"
)

// TestImageStore: what is understood, and what is one clear line.
func TestImageStore(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]ImageStore{
		"file:///var/lib/images/": {Directory: "/var/lib/images"},
		"s3://images":             {Bucket: "images"},
		"s3://images/of/callbackd/?region=eu-central-1&path-style=true": {Bucket: "images", Prefix: "of/callbackd/", Region: "eu-central-1", PathStyle: "true"},
	} {
		c, err := Images([]string{"DATABASE_URL=postgres://host/db", "CALLBACKD_IMAGE_STORE=" + value})
		if err != nil || c.ImageStore == nil || *c.ImageStore != want {
			t.Errorf("%s: %+v, %v; want %+v", value, c.ImageStore, err, want)
		}
	}
	c, err := Images([]string{"DATABASE_URL=postgres://host/db", "CALLBACKD_IMAGE_STORE=s3://images?endpoint=http%3A%2F%2F127.0.0.1%3A7070"})
	if err != nil || c.ImageStore.Endpoint.String() != "http://127.0.0.1:7070" {
		t.Errorf("endpoint: %+v, %v", c, err)
	}
	for _, value := range []string{
		"images", "file://images", "file:///", "file:///a?b=c", "gs://images", "s3://", "s3://Images", "s3://images/a/../b",
		"s3://images?endpoint=nowhere", "s3://images?endpoint=http://host/path", "s3://images?path-style=yes", "s3://images?colour=red",
		"s3://images?region=a&region=b", "s3://user:secret@images",
	} {
		_, err := Images([]string{"DATABASE_URL=postgres://host/db", "CALLBACKD_IMAGE_STORE=" + value})
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "CALLBACKD_IMAGE_STORE ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want one line", value, err)
		}
	}
}

// TestImageKeys: keys of S3 come in pairs; age's keys are read as age-keygen writes them.
func TestImageKeys(t *testing.T) {
	t.Parallel()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	recipient, identity := key.Recipient().String(), key.String()
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{
		"CALLBACKD_IMAGE_RECIPIENTS=" + recipient, "CALLBACKD_IMAGE_RECIPIENTS=" + recipient + " ,\n" + recipient + ",",
		"CALLBACKD_IMAGE_RECIPIENTS=" + hybrid.Recipient().String(),
		"CALLBACKD_IMAGE_IDENTITY=# created: today, by me\n# public key: " + recipient + "\n" + identity + "\n",
		"CALLBACKD_IMAGE_IDENTITY=" + identity + "," + hybrid.String(),
	} {
		if _, err := Images([]string{"DATABASE_URL=postgres://host/db", good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, name := range map[string]string{
		"CALLBACKD_IMAGE_RECIPIENTS=" + recipient + "x":                               "CALLBACKD_IMAGE_RECIPIENTS",
		"CALLBACKD_IMAGE_RECIPIENTS=" + recipient + "," + hybrid.Recipient().String(): "CALLBACKD_IMAGE_RECIPIENTS",
		"CALLBACKD_IMAGE_IDENTITY=" + recipient:                                       "CALLBACKD_IMAGE_IDENTITY",
		"CALLBACKD_IMAGE_IDENTITY=# nothing":                                          "CALLBACKD_IMAGE_IDENTITY",
		"CALLBACKD_IMAGE_STORE_ACCESS_KEY=key":                                        "CALLBACKD_IMAGE_STORE_SECRET_KEY",
		"CALLBACKD_IMAGE_STORE_SECRET_KEY=key":                                        "CALLBACKD_IMAGE_STORE_ACCESS_KEY",
	} {
		_, err := Images([]string{"DATABASE_URL=postgres://host/db", bad})
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), name+" ") {
			t.Errorf("%s: %v, want one line for %s", bad, err, name)
		}
	}
}
