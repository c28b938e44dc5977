package processtest

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// programDir is where callbackd is built, for the time of the tests.
var programDir string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if programDir, err = os.MkdirTemp("", "callbackd-processtest-"); err == nil {
		defer os.RemoveAll(programDir)
		// These tests mostly wait for other processes.
		err = flag.Set("test.parallel", "6")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := printLedger(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// program builds callbackd, once, and returns its path.
var program = sync.OnceValues(func() (string, error) { return build("callbackd", raceFlags...) })

// plainProgram is callbackd as it is released: static, without the race detector.
var plainProgram = sync.OnceValues(func() (string, error) { return build("callbackd-plain") })

// build builds callbackd; without flags, as it is released.
func build(name string, flags ...string) (string, error) {
	if err := readSources(); err != nil {
		return "", err
	}
	path := filepath.Join(programDir, name)
	args := slices.Concat([]string{"build", "-buildvcs=false", "-o", path}, flags, []string{"callbackd/cmd/callbackd"})
	cmd := exec.Command("go", args...)
	if len(flags) == 0 {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build callbackd: %w\n%s", err, out)
	}
	return path, nil
}

// readSources looks at every file that callbackd may be built of. What a test
// looks at is a part of its key in go test's cache, what go build reads is not.
func readSources() error {
	const root = "../.."
	for _, path := range []string{"go.mod", "go.sum", "cmd", "internal", "migrations"} {
		err := filepath.WalkDir(filepath.Join(root, path), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("look at the sources: %w", err)
		}
	}
	return nil
}
