package fetcher

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/imagestore"
	"callbackd/internal/imagestore/imagestoretest"
	"callbackd/internal/sandbox"
	"callbackd/internal/store/storetest"
)

// useS3 has images stored in an S3 server, encrypted to the key that it returns.
func (r *rig) useS3() (*imagestoretest.Server, age.Identity) {
	r.Helper()
	server := imagestoretest.NewServer(r)
	var err error
	r.imageStore, err = imagestore.Open(imagestore.Options{
		Location:  imagestore.Location{Bucket: imagestoretest.Bucket, Endpoint: server.Endpoint, PathStyle: "true"},
		AccessKey: imagestoretest.AccessKey, SecretKey: imagestoretest.SecretKey, Metrics: imagestore.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		r.Fatal(err)
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		r.Fatal(err)
	}
	if r.sealer, err = imagestore.NewSealer([]age.Recipient{key.Recipient()}); err != nil {
		r.Fatal(err)
	}
	return server, key
}

// checkObjects wants the object of each image to be what was served, and no other object
// without a row.
func (r *rig) checkObjects(j *sandbox.Journey, key age.Identity) {
	r.Helper()
	for _, img := range r.sandbox.Expected(j).Images {
		objectKey := value[string](r, `SELECT object_key FROM jumio.images WHERE workflow_execution_id = $1 AND credential_id = $2
			AND classifier = $3 AND stored_in = 's3' AND encrypted AND data IS NULL`, j.WorkflowExecutionID, img.CredentialID, img.Classifier)
		object, err := r.imageStore.Get(r.Context(), objectKey)
		if err != nil {
			r.Fatal(err)
		}
		plain, err := imagestore.Unseal(object, []age.Identity{key})
		if err != nil {
			r.Fatal(err)
		}
		content, err := io.ReadAll(plain)
		if sum := sha256.Sum256(content); err != nil || hex.EncodeToString(sum[:]) != img.SHA256 {
			r.Errorf("the object of %s is not what was served: %v", img.Classifier, err)
		}
		_ = object.Close()
	}
	err := r.imageStore.List(r.Context(), func(o imagestore.Object) error {
		known := value[bool](r, `SELECT EXISTS (SELECT FROM callbackd.images WHERE object_key = $1)
			OR EXISTS (SELECT FROM callbackd.object_deletions WHERE object_key = $1)`, o.Key)
		if !known {
			r.Errorf("object %s belongs to nothing", o.Key)
		}
		return nil
	})
	if err != nil {
		r.Error(err)
	}
	if n := value[int](r, `SELECT count(*) FROM callbackd.image_uploads`); n != 0 {
		r.Errorf("%d uploads are left", n)
	}
}

// A store that takes no image costs no attempt, whatever is wrong with it, and is tried
// again until it does.
func TestImageStoreThatFails(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"500": imagestoretest.InternalError, "cut off": imagestoretest.CutOff,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick, sandbox.Config{Seed: 5})
			server, key := r.useS3()
			var puts atomic.Int64
			server.Fail(func(w http.ResponseWriter, req *http.Request) bool {
				// The second image's, as often as the client tries.
				return req.Method == http.MethodPut && puts.Add(1) > 1 && fault(w, req)
			})
			r.start()
			j := r.journey("passed-passport")
			r.waitFor("a failed attempt", `SELECT count(*) = 1 FROM callbackd.object_deletions`)
			if n := value[int](r, `SELECT count(*) FROM jumio.images`); n != 0 {
				t.Errorf("%d images show before the retrieval has ended", n)
			}
			server.Fail(nil)
			r.settled(j.WorkflowExecutionID)
			if n := value[int](r, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 1 {
				t.Errorf("%d attempts were counted, want 1", n)
			}
			r.checkObjects(j, key)
			if e := r.ledger(j); e.DetailsRequests.OK != 1 {
				t.Errorf("details were asked for %d times, want once", e.DetailsRequests.OK)
			}
		})
	}
}

// An attempt whose lease is gone while it uploads leaves no object: it is queued to be
// deleted, and has no row.
func TestLeaseLostWhileUploading(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 6})
	server, key := r.useS3()
	uploading, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	server.Fail(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut && once.CompareAndSwap(false, true) {
			close(uploading)
			<-goOn
		}
		return false
	})
	r.start()
	j := r.journey("passed-passport")
	<-uploading
	storetest.Query(t, r.store, `UPDATE callbackd.workflow_executions SET lease_token = gen_random_uuid(), lease_until = now()`)
	close(goOn)
	r.waitFor("the object is to be deleted", `SELECT count(*) = 1 FROM callbackd.object_deletions`)
	r.settled(j.WorkflowExecutionID)
	r.checkObjects(j, key)
	deleted := value[string](r, `SELECT object_key FROM callbackd.object_deletions`)
	if value[bool](r, `SELECT EXISTS (SELECT FROM callbackd.images WHERE object_key = $1)`, deleted) {
		t.Error("an image needs the object that is to be deleted")
	}
}

// With recipients and no store, the database has the age file.
func TestEncryptedInDatabase(t *testing.T) {
	r := newRig(t, quick, sandbox.Config{Seed: 7})
	_, key := r.useS3()
	r.imageStore = nil
	r.start()
	j := r.journey("passed-passport")
	r.settled(j.WorkflowExecutionID)
	for _, img := range r.sandbox.Expected(j).Images {
		sealed := value[[]byte](r, `SELECT data FROM jumio.images WHERE credential_id = $1 AND classifier = $2 AND stored_in = 'database'
			AND encrypted AND encode(sha256, 'hex') = $3`, img.CredentialID, img.Classifier, img.SHA256)
		plain, err := imagestore.Unseal(bytes.NewReader(sealed), []age.Identity{key})
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(plain)
		if sum := sha256.Sum256(content); err != nil || hex.EncodeToString(sum[:]) != img.SHA256 {
			t.Errorf("%s is not what was served: %v", img.Classifier, err)
		}
	}
}
