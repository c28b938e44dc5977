// Command release makes what `make release` delivers of binaries that have been
// built: for each an archive and a bill of materials, and the checksums of all.
//
//	go run ./internal/release -binaries bin/release -version v1.2.3 -time 1767225600
//
// The same commit and Go version give the same bytes on every machine. It builds
// nothing and publishes nothing.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// delivered are the files and directories that an operator needs beside the
// binary. Of these only what is under version control goes into an archive:
// deploy may hold an operator's secrets.
var delivered = []string{"CHANGELOG.md", "LICENSE", "README.md", "deploy", "docs"}

func main() {
	var r release
	flag.StringVar(&r.binaries, "binaries", "bin/release", "directory with OS_ARCH/callbackd for each target")
	flag.StringVar(&r.dir, "dir", "dist", "directory to write to; must be empty or missing")
	flag.StringVar(&r.version, "version", "", "version that the binaries were stamped with")
	unix := flag.Int64("time", 0, "time of the commit in seconds since 1970")
	flag.Parse()
	if flag.NArg() > 0 || r.version == "" || *unix <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	r.time = time.Unix(*unix, 0).UTC()
	if err := r.make(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "release: "+err.Error())
		os.Exit(1)
	}
}

// release is one version for all targets.
type release struct {
	binaries, dir, version string
	time                   time.Time
}

// target is what a binary runs on.
type target struct{ os, arch string }

// file is one that goes into an archive.
type file struct {
	name    string // below the archive's own directory, with slashes
	content []byte
	mode    int64
}

func (r *release) make(ctx context.Context) error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil { //nolint:gosec // for everybody
		return err
	}
	if entries, err := os.ReadDir(r.dir); err != nil || len(entries) > 0 {
		return errors.Join(err, fmt.Errorf("%s is not empty", r.dir))
	}
	common, err := deliveredFiles(ctx)
	if err != nil {
		return err
	}
	binaries, err := filepath.Glob(filepath.Join(r.binaries, "*_*", "callbackd"))
	if err != nil || len(binaries) == 0 {
		return fmt.Errorf("no binary in %s", r.binaries)
	}
	for _, binary := range binaries {
		if err := r.one(ctx, binary, common); err != nil {
			return fmt.Errorf("%s: %w", binary, err)
		}
	}
	return writeChecksums(r.dir)
}

// one makes the archive and the bill of materials of one binary.
func (r *release) one(ctx context.Context, binary string, common []file) error {
	system, arch, _ := strings.Cut(filepath.Base(filepath.Dir(binary)), "_")
	to := target{system, arch}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	licences, err := licencesOf(ctx, to)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("callbackd_%s_%s_%s", r.version, to.os, to.arch)
	bom, err := r.billOfMaterials(to, content)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(r.dir, name+".cdx.json"), bom); err != nil {
		return err
	}
	archive, err := r.archive(name, slices.Concat(common, []file{
		{"callbackd", content, 0o755}, {"THIRD_PARTY_LICENSES", licences, 0o644}, {"callbackd.cdx.json", bom, 0o644},
	}))
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(r.dir, name+".tar.gz"), archive)
}

// deliveredFiles reads what is delivered, in Git's words of mode and name.
func deliveredFiles(ctx context.Context) (list []file, err error) {
	out, err := run(ctx, nil, "git", slices.Concat([]string{"ls-files", "--stage", "-z", "--"}, delivered)...)
	if err != nil {
		return nil, err
	}
	for entry := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		stage, name, _ := strings.Cut(entry, "\t")
		mode, _, _ := strings.Cut(stage, " ")
		f := file{name: name, mode: 0o644}
		switch mode {
		case "100644":
		case "100755":
			f.mode = 0o755
		default:
			return nil, fmt.Errorf("%s is no ordinary file", name)
		}
		if f.content, err = os.ReadFile(filepath.FromSlash(name)); err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	for _, name := range delivered {
		there := func(f file) bool { return f.name == name || strings.HasPrefix(f.name, name+"/") }
		if !slices.ContainsFunc(list, there) {
			return nil, fmt.Errorf("%s is not under version control", name)
		}
	}
	return list, nil
}

// archive is a gzipped tar file of the files in a directory of that name, sorted,
// all of them root's and of the commit's time.
func (r *release) archive(name string, files []file) ([]byte, error) {
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(zip)
	made := map[string]bool{}
	for _, f := range files {
		full := path.Join(name, f.name)
		for i, c := range full {
			if dir := full[:i]; c == '/' && !made[dir] {
				made[dir] = true
				h := &tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: r.time, Format: tar.FormatUSTAR}
				if err := archive.WriteHeader(h); err != nil {
					return nil, err
				}
			}
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: full, Mode: f.mode, Size: int64(len(f.content)), ModTime: r.time, Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(archive.Close(), zip.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// writeChecksums writes SHA256SUMS in the format of sha256sum and shasum.
func writeChecksums(dir string) error {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), entry.Name())
	}
	return writeFile(filepath.Join(dir, "SHA256SUMS"), sums.Bytes())
}

// licencesOf are the licences and notices of all code that is compiled into the
// binary: Go's own, and those beside a module's or a package's files.
func licencesOf(ctx context.Context, to target) ([]byte, error) {
	const line = `{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{"\t"}}{{.Dir}}{{"\n"}}{{.Path}} {{.Version}}{{"\t"}}{{$.Dir}}{{end}}{{end}}`
	environ := []string{"CGO_ENABLED=0", "GOOS=" + to.os, "GOARCH=" + to.arch}
	packages, err := run(ctx, environ, "go", "list", "-deps", "-f", line, "./cmd/callbackd")
	if err != nil {
		return nil, err
	}
	root, err := run(ctx, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	dirs := map[string][]string{"Go": {strings.TrimSpace(string(root))}}
	lines := bufio.NewScanner(bytes.NewReader(packages))
	for lines.Scan() {
		if module, dir, ok := strings.Cut(lines.Text(), "\t"); ok && !slices.Contains(dirs[module], dir) {
			dirs[module] = append(dirs[module], dir)
		}
	}
	modules := make([]string, 0, len(dirs))
	for module := range dirs {
		modules = append(modules, module)
	}
	slices.Sort(modules)
	var all bytes.Buffer
	for _, module := range modules {
		before := all.Len()
		for _, dir := range dirs[module] {
			if err := appendLicences(&all, module, dir); err != nil {
				return nil, err
			}
		}
		if all.Len() == before {
			return nil, fmt.Errorf("no licence of %s in %s", module, dirs[module][0])
		}
	}
	return all.Bytes(), nil
}

func appendLicences(all io.Writer, module, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name, _, _ := strings.Cut(strings.ToUpper(entry.Name()), ".")
		if entry.IsDir() || !slices.Contains([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"}, name) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(all, "==== %s: %s\n\n%s\n\n", module, entry.Name(), bytes.TrimSpace(content))
	}
	return nil
}

// run gives a command's output.
func run(ctx context.Context, environ []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // git and go
	cmd.Env = append(os.Environ(), environ...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, args[0], err)
	}
	return out, nil
}

func writeFile(name string, content []byte) error {
	return os.WriteFile(name, content, 0o644) //nolint:gosec // for everybody
}
