//go:build deploy

package deploytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"debug/macho"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// releaseTargets are the systems that a release has binaries for.
var releaseTargets = []string{"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"}

// releaseRun runs a command in the repository's root and returns what it wrote to
// stdout.
func releaseRun(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute) // cold caches, a busy machine
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

func releaseOutput(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := releaseRun(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// TestRelease: `make release` delivers everything that it should, each file is
// what its name says, and a second run gives the same bytes.
func TestRelease(t *testing.T) {
	// An operator may keep secrets there.
	stranger := filepath.Join("..", "..", "deploy", "untracked-by-git")
	if err := os.WriteFile(stranger, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(stranger)
	version := releaseOutput(t, "git", "describe", "--tags", "--always", "--dirty")
	seconds, err := strconv.ParseInt(releaseOutput(t, "git", "log", "-1", "--format=%ct"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	first, second := filepath.Join(t.TempDir(), "dist"), filepath.Join(t.TempDir(), "dist")
	releaseOutput(t, "make", "release", "DIST="+first)

	sums := releaseChecksums(t, first)
	var want []string
	for _, target := range releaseTargets {
		base := "callbackd_" + version + "_" + target
		want = append(want, base+".cdx.json", base+".tar.gz")
		files := releaseArchive(t, filepath.Join(first, base+".tar.gz"), base, time.Unix(seconds, 0))
		releaseBinary(t, target, files["callbackd"])
		releaseBill(t, filepath.Join(first, base+".cdx.json"), version, files)
		if target == runtime.GOOS+"_"+runtime.GOARCH {
			releaseRuns(t, files["callbackd"], version)
		}
	}
	slices.Sort(want)
	if !slices.Equal(sums, want) {
		t.Errorf("SHA256SUMS names %q, want %q", sums, want)
	}

	releaseOutput(t, "make", "release", "DIST="+second)
	was, err := os.ReadFile(filepath.Join(first, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	is, err := os.ReadFile(filepath.Join(second, "SHA256SUMS"))
	if err != nil || !bytes.Equal(is, was) {
		t.Errorf("a second run's checksums are\n%s(%v), the first run's\n%s", is, err, was)
	}
	t.Logf("checked: a second run gives the same bytes for all %d files", len(want))
}

// releaseChecksums verifies SHA256SUMS and returns the names in it, which must be
// all other files in the directory.
func releaseChecksums(t *testing.T, dir string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if is := fmt.Sprintf("%x", sha256.Sum256(content)); is != sum {
			t.Errorf("the SHA-256 of %s is %s, SHA256SUMS says %s", name, is, sum)
		}
		names = append(names, name)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != len(names)+1 {
		t.Errorf("%d files, SHA256SUMS names %d (%v)", len(entries), len(names), err)
	}
	t.Logf("checked: the SHA-256 of %d files", len(names))
	return names
}

// releaseArchive reads an archive and returns its files by their names below base.
func releaseArchive(t *testing.T, path, base string, committed time.Time) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(unzipped); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // the commit's hash
		}
		name, inside := strings.CutPrefix(h.Name, base+"/")
		if !inside || h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(committed) || h.Mode&0o022 != 0 {
			t.Errorf("%s: the entry %+v", path, h)
		}
		if h.Typeflag == tar.TypeReg {
			if files[name], err = io.ReadAll(archive); err != nil {
				t.Fatal(err)
			}
			if (name == "callbackd") != (h.Mode&0o111 != 0) && !strings.HasSuffix(name, ".sh") {
				t.Errorf("%s: the mode of %s is %o", path, name, h.Mode)
			}
		}
	}
	for _, name := range []string{
		"LICENSE", "README.md", "CHANGELOG.md", "docs/upgrades.md", "deploy/roles.sql", "THIRD_PARTY_LICENSES", "callbackd.cdx.json",
	} {
		if _, there := files[name]; !there {
			t.Errorf("%s has no %s", path, name)
		}
	}
	if _, there := files["deploy/untracked-by-git"]; there {
		t.Errorf("%s has a file that is not under version control", path)
	}
	licences := string(files["THIRD_PARTY_LICENSES"])
	for _, owner := range []string{"==== Go: LICENSE", "==== github.com/jackc/pgx/v5@v", "==== github.com/riverqueue/river@v"} {
		if !strings.Contains(licences, owner) {
			t.Errorf("%s: %q is not among the licences", path, owner)
		}
	}
	t.Logf("checked: %s.tar.gz, %d files, licences of %d kinds of code", base, len(files), strings.Count(licences, "\n==== ")+1)
	return files
}

// releaseBinary reads the binary's own headers.
func releaseBinary(t *testing.T, target string, binary []byte) {
	t.Helper()
	system, arch, _ := strings.Cut(target, "_")
	if system == "linux" {
		f, err := elf.NewFile(bytes.NewReader(binary))
		if err != nil {
			t.Fatal(err)
		}
		machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
		loaded := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC })
		if f.Machine != machine || loaded {
			t.Errorf("%s: the binary is for %v, dynamic: %t", target, f.Machine, loaded)
		}
		t.Logf("checked: %s is an ELF for %v, static", target, f.Machine)
		return
	}
	f, err := macho.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	cpu := map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[arch]
	libraries, err := f.ImportedLibraries()
	foreign := slices.DeleteFunc(slices.Clone(libraries), func(l string) bool {
		return strings.HasPrefix(l, "/usr/lib/") || strings.HasPrefix(l, "/System/Library/")
	})
	if err != nil || f.Cpu != cpu || len(foreign) > 0 {
		t.Errorf("%s: the binary is for %v, needs %q (%v)", target, f.Cpu, foreign, err)
	}
	t.Logf("checked: %s is a Mach-O for %v, with the system's libraries %q", target, f.Cpu, libraries)
}

// releaseRuns runs the binary for this machine.
func releaseRuns(t *testing.T, binary []byte, version string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "callbackd")
	if err := os.WriteFile(path, binary, 0o700); err != nil {
		t.Fatal(err)
	}
	out := releaseOutput(t, path, "version")
	want := "callbackd " + version + "\ncommit " + releaseOutput(t, "git", "rev-parse", "HEAD") + "\n"
	if !strings.HasPrefix(out, want) {
		t.Errorf("version prints %q, want %q", out, want)
	}
	t.Logf("checked: it runs: %q", out)
}

// releaseBill: the bill of materials names what is in the binary, in the
// versions of go.mod, and nothing that only the tests use.
func releaseBill(t *testing.T, path, version string, files map[string][]byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, files["callbackd.cdx.json"]) {
		t.Errorf("%s differs from the one in the archive", path)
	}
	type component struct{ Name, Version, Purl string }
	type property struct{ Name, Value string }
	var bill struct {
		BOMFormat, SpecVersion string
		Metadata               struct {
			Component  component
			Properties []property
		}
		Components []component
	}
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	of := bill.Metadata.Component
	digest := property{"cdx:gomod:binary:hash:SHA-256", fmt.Sprintf("%x", sha256.Sum256(files["callbackd"]))}
	if bill.BOMFormat != "CycloneDX" || bill.SpecVersion != "1.6" || of.Name != "callbackd" || of.Version != version ||
		!slices.Contains(bill.Metadata.Properties, digest) {
		t.Errorf("%s describes %+v in %s %s", path, of, bill.BOMFormat, bill.SpecVersion)
	}
	found := map[string]string{}
	for _, c := range bill.Components {
		found[c.Name] = c.Version
		if want := "pkg:golang/" + c.Name + "@" + c.Version; c.Purl != want {
			t.Errorf("the package URL is %s, want %s", c.Purl, want)
		}
	}
	for _, module := range []string{
		"github.com/jackc/pgx/v5", "github.com/riverqueue/river", "github.com/golang-migrate/migrate/v4", "go.uber.org/zap", "github.com/prometheus/client_golang",
	} {
		if want := releaseOutput(t, "go", "list", "-m", "-f", "{{.Version}}", module); found[module] != want {
			t.Errorf("%s names %s in version %q, want %s", path, module, found[module], want)
		}
	}
	if want := strings.TrimPrefix(releaseOutput(t, "go", "env", "GOVERSION"), "go"); found["stdlib"] != want {
		t.Errorf("%s names Go's library in version %q, want %s", path, found["stdlib"], want)
	}
	for _, module := range []string{"github.com/google/go-cmp", "go.uber.org/goleak", "gonum.org/v1/plot"} {
		if _, there := found[module]; there {
			t.Errorf("%s names %s, which is not in the binary", path, module)
		}
	}
	t.Logf("checked: %s names %d components", filepath.Base(path), len(bill.Components))
}

// TestReleaseNotes: the changelog's section on a version, and an error for a
// version without one.
func TestReleaseNotes(t *testing.T) {
	if notes := releaseOutput(t, "sh", ".ci/notes.sh", "Unreleased"); strings.Contains(notes, "\n## ") || !strings.Contains(notes, "### ") {
		t.Errorf("the notes on Unreleased: %q", notes)
	}
	if out, err := releaseRun(t, "sh", ".ci/notes.sh", "v987.6.5"); err == nil || out != "" {
		t.Errorf("a version without notes: %q, %v", out, err)
	}
	t.Log("checked: the changelog's section on a version, and a version without one")
}
