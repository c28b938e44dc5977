package deploytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// makeSecrets runs deploy/secrets.sh for a directory that already has a
// certificate, so that openssl is not needed.
func makeSecrets(t *testing.T, dir string, mode os.FileMode) (string, error) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tls_certificate", "tls_key"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("sh", "../../deploy/secrets.sh", dir).CombinedOutput()
	return string(said), err
}

// The secrets are readable by any of the containers' users, in a directory that
// other users cannot enter.
func TestSecretsAreKeptFromOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	if said, err := makeSecrets(t, dir, 0o700); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has the mode %v, %v", info.Mode().Perm(), err)
	}
	for _, name := range []string{"postgres_password", "owner_url", "worker_url", "receive_url", "callback_path", "jumio_client_secret", "grafana_password", "tls_certificate", "tls_key", "roles.sql"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o444 {
			t.Errorf("%s: %v, %v, want the mode 0444", name, info, err)
		}
	}
}

func TestSecretsAreRefusedInAnOpenDirectory(t *testing.T) {
	for _, mode := range []os.FileMode{0o755, 0o711, 0o750, 0o770, 0o701, 0o777} {
		dir := filepath.Join(t.TempDir(), "secrets")
		said, err := makeSecrets(t, dir, mode)
		if err == nil || !strings.Contains(said, "others may enter "+dir) || strings.Count(said, "\n") != 1 {
			t.Errorf("mode %04o: %v, it says %q", mode, err, said)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
			t.Errorf("mode %04o: files were made: %v, %v", mode, files, err)
		}
	}
}

func TestSecretsAreRefusedInAnotherUsersDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT CHECKED, because this is not root: a directory of another user")
	}
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 54321, -1); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("sh", "../../deploy/secrets.sh", dir).CombinedOutput(); err == nil {
		t.Errorf("it was used: %s", said)
	}
}
