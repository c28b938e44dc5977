package tombstone

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func TestHash(t *testing.T) {
	k := NewKey("0123456789abcdef")
	// printf 'account\0a' | openssl dgst -sha256 -hmac 0123456789abcdef
	const want = "325fc7d0430b1ca4adeb55ad33fac8ed3f5efa0c0e445866bf8e65b742455242"
	if got := hex.EncodeToString(k.Hash(Subject{Account, "a"})); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	hashes := [][]byte{
		k.Hash(Subject{Account, "a"}), k.Hash(Subject{WorkflowExecution, "a"}), k.Hash(Subject{UserReference, "a"}), k.Hash(Subject{Account, "b"}),
		k.Check(), NewKey("another key 12345").Hash(Subject{Account, "a"}), NewKey("another key 12345").Check(),
	}
	for i, a := range hashes {
		for j, b := range hashes {
			if i != j && bytes.Equal(a, b) {
				t.Errorf("hashes %d and %d are equal", i, j)
			}
		}
	}
}

func TestKeyIsNotShown(t *testing.T) {
	k := NewKey("a secret of the tests")
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s %q %x", k, k, k, k, k), fmt.Sprintf("%v", struct{ K Key }{k})} {
		if strings.Contains(text, "secret of") {
			t.Errorf("shown: %s", text)
		}
	}
}
