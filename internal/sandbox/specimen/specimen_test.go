package specimen

import (
	"bytes"
	"image"
	"math/rand/v2"
	"testing"
	"time"

	"callbackd/internal/sandbox/journey"
)

func newJourney(t *testing.T, kind string, index uint64) *journey.Journey {
	t.Helper()
	k, err := journey.Find(kind)
	if err != nil {
		t.Fatal(err)
	}
	return journey.New(journey.Settings{Seed: 2, Now: time.Now()}, k, index)
}

// TestPadFillsExactly, around the ends of a comment segment too, where a rest of
// 1 to 3 bytes has no room.
func TestPadFillsExactly(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, p := range newJourney(t, "passed-id-card", 0).Parts[:2] { // FRONT is a JPEG, BACK a PNG
		file := Of(p).Encode(p.ContentType)
		plain := len(Pad(rng, file, p.ContentType, "c", 0))
		for _, more := range []int{12, 13, 65537, 65538, 65539, 65540, 65541, 65542, 131075} {
			padded := Pad(rng, file, p.ContentType, "c", plain+more)
			if len(padded) != plain+more {
				t.Errorf("%s: %d bytes more than plain, want %d", p.Classifier, len(padded)-plain, more)
			}
			if _, format, err := image.Decode(bytes.NewReader(padded)); err != nil || "image/"+format != p.ContentType {
				t.Errorf("%s with %d bytes more: %s, %v", p.Classifier, more, format, err)
			}
		}
	}
}

// TestAnonymous: whoever asks first, and however often a picture leaves the
// cache, it is the same.
func TestAnonymous(t *testing.T) {
	for _, kind := range []string{"passed-passport", "passed-id-card", "passed-driving-license", "passed-visa"} {
		one, other := newJourney(t, kind, 0), newJourney(t, kind, 1)
		for i := range one.Parts {
			if a, b := Of(one.Parts[i]).Anonymous(), Of(other.Parts[i]).Anonymous(); a != b {
				t.Errorf("%s: %+v and %+v", kind, a, b)
			}
		}
	}
}
