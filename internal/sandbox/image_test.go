package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"io"
	"net/http"
	"testing"

	"callbackd/internal/sandbox/journey"
)

// checkImage fetches the image and compares it with what was promised.
func checkImage(t *testing.T, c *apiClient, want Image) []byte {
	t.Helper()
	path := "/api/v1/accounts/" + want.AccountID + "/credentials/" + want.CredentialID + "/parts/" + want.Classifier
	answer, err := c.http.Do(c.request(path))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	file, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v", want.Classifier, answer.StatusCode, err)
	}
	sum := sha256.Sum256(file)
	if answer.Header.Get("Content-Type") != want.ContentType || len(file) != want.Size || hex.EncodeToString(sum[:]) != want.SHA256 {
		t.Errorf("%s: %s, %d bytes, %x, want %+v", want.Classifier, answer.Header.Get("Content-Type"), len(file), sum, want)
	}
	return file
}

func checkDecodes(t *testing.T, file []byte, want Image) {
	t.Helper()
	picture, name, err := image.Decode(bytes.NewReader(file))
	if want.ContentType == journey.Binary {
		if err == nil {
			t.Errorf("%s is a picture", want.Classifier)
		}
		return
	}
	if err != nil || "image/"+name != want.ContentType {
		t.Fatalf("%s decodes as %s, %v; want %s", want.Classifier, name, err, want.ContentType)
	}
	size, wanted := picture.Bounds().Size(), image.Pt(800, 530)
	switch {
	case want.Category == "SELFIE":
		wanted = image.Pt(480, 640)
	case size.Y == 590: // the sheet of a passport or visa
		wanted = image.Pt(800, 590)
	}
	if size != wanted {
		t.Errorf("%s measures %v, want %v", want.Classifier, size, wanted)
	}
	if len(file) < 10<<10 {
		t.Errorf("%s has only %d bytes", want.Classifier, len(file))
	}
}

func TestImagesArePaddedToTheWantedSize(t *testing.T) {
	for _, size := range []int{200<<10 + 1, 10 << 20} {
		s := start(t, Config{ImageBytes: size, FastImages: true, Seed: 2})
		j := newJourney(t, s, "passed-id-card") // JPEG, PNG and a facemap
		expected := s.Expected(j)
		for _, want := range expected.Images {
			if want.Size != size {
				t.Errorf("%s has %d bytes, want %d", want.Classifier, want.Size, size)
			}
		}
		for _, p := range j.parts {
			file := s.image(p)
			checkDecodes(t, file, p.describe())
		}
	}
}

func TestFastImagesAreDrawnOnceAndStillDiffer(t *testing.T) {
	s := start(t, Config{FastImages: true})
	seen := map[[32]byte]bool{}
	for range 3 {
		j := newJourney(t, s, "passed-passport")
		for _, p := range j.parts {
			file := s.image(p)
			seen[sha256.Sum256(file)] = true
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d different files of 9", len(seen))
	}
}

func TestTheImageCacheIsBoundedAndLosesNothing(t *testing.T) {
	const limit = 120 << 10
	s := start(t, Config{ImageCacheBytes: limit})
	j := newJourney(t, s, "passed-id-card")
	for range 2 {
		for _, p := range j.parts {
			before := p.describe()
			file := s.image(p)
			sum := sha256.Sum256(file)
			if before.SHA256 != "" && before.SHA256 != hex.EncodeToString(sum[:]) {
				t.Error("drawn again, the image differs")
			}
			if s.images.size > limit {
				t.Errorf("%d bytes are kept", s.images.size)
			}
		}
	}
	held := 0
	for _, file := range s.images.files {
		held += len(file)
	}
	if held == 0 || held != s.images.size {
		t.Errorf("the cache holds %d bytes and counts %d", held, s.images.size)
	}
}

func TestEveryDocumentIsDrawn(t *testing.T) {
	s := start(t, Config{Seed: 4})
	c := login(t, s)
	for _, kind := range []string{"passed-passport", "passed-id-card", "passed-driving-license", "passed-visa", "passed-later-jumio"} {
		j := newJourney(t, s, kind)
		expected := s.Expected(j)
		for _, want := range expected.Images {
			checkDecodes(t, checkImage(t, c, want), want)
		}
	}
}
