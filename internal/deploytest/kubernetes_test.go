//go:build deploy

package deploytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	kubernetesDir = "../../deploy/kubernetes"

	// kubernetesOldest is built into kubectl-validate; kubernetesNewest is a
	// module that holds the OpenAPI documents of that version.
	kubernetesOldest = "1.30"
	kubernetesNewest = "k8s.io/kubernetes@v1.36.3"
	// prometheusOperator is a module that holds the definition of ServiceMonitor.
	prometheusOperator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
)

// kubernetesBuilds are the kustomizations by name: every overlay, the base, and
// the base with each component.
func kubernetesBuilds(t *testing.T) map[string]string {
	t.Helper()
	builds := map[string]string{"base": filepath.Join(kubernetesDir, "base")}
	for _, dir := range kubernetesGlob(t, "overlays/*") {
		builds["overlays/"+filepath.Base(dir)] = dir
	}
	for _, dir := range kubernetesGlob(t, "components/*") {
		builds["base and components/"+filepath.Base(dir)] = kubernetesCombination(t, dir)
	}
	return builds
}

func kubernetesGlob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(kubernetesDir, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("nothing is %s: %v", pattern, err)
	}
	return found
}

// kubernetesCombination is a kustomization of the base and a component.
func kubernetesCombination(t *testing.T, component string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	relative := func(path string) string {
		absolute, err := filepath.Abs(path)
		if err == nil {
			absolute, err = filepath.EvalSymlinks(absolute)
		}
		if err == nil {
			path, err = filepath.Rel(dir, absolute)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	kubernetesWrite(t, filepath.Join(dir, "kustomization.yaml"), fmt.Sprintf("resources: [%s]\ncomponents: [%s]\n",
		relative(filepath.Join(kubernetesDir, "base")), relative(component)))
	return dir
}

func kubernetesWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// kubernetesRun runs a program that must succeed, and returns its output.
func kubernetesRun(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

func kubernetesBuild(t *testing.T, dir string) string {
	t.Helper()
	return kubernetesRun(t, "", "kustomize", "build", dir)
}

// kubernetesModule is the directory of a module with a version.
func kubernetesModule(t *testing.T, module string) string {
	t.Helper()
	var answer struct{ Dir string }
	out := kubernetesRun(t, t.TempDir(), "go", "mod", "download", "-json", module)
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Dir
}

// kubernetesSchemas lays the OpenAPI documents of kubernetesNewest out as
// kubectl-validate wants them.
func kubernetesSchemas(t *testing.T) string {
	t.Helper()
	const suffix = "_openapi.json"
	documents, err := filepath.Glob(filepath.Join(kubernetesModule(t, kubernetesNewest), "api/openapi-spec/v3/api*__v*"+suffix))
	if err != nil || len(documents) == 0 {
		t.Fatalf("%s has no OpenAPI documents: %v", kubernetesNewest, err)
	}
	dir := t.TempDir()
	for _, document := range documents {
		// api__v1_openapi.json, apis__apps__v1_openapi.json
		path := filepath.Join(dir, strings.ReplaceAll(strings.TrimSuffix(filepath.Base(document), suffix), "__", "/")+".json")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(document, path); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// kubernetesChecker checks objects as the API servers of some versions would.
type kubernetesChecker struct {
	versions []string            // for people
	flags    map[string][]string // of kubectl-validate, by version
}

func newKubernetesChecker(t *testing.T) *kubernetesChecker {
	t.Helper()
	crds := "--local-crds=" + filepath.Join(kubernetesModule(t, prometheusOperator), "example/prometheus-operator-crd")
	return &kubernetesChecker{
		versions: []string{kubernetesOldest, kubernetesNewest},
		flags: map[string][]string{
			kubernetesOldest: {crds, "--version=" + kubernetesOldest},
			kubernetesNewest: {crds, "--local-schemas=" + kubernetesSchemas(t)},
		},
	}
}

// check returns, for each stream of objects, how many it holds and what the
// version says against them.
func (c *kubernetesChecker) check(t *testing.T, version string, streams map[string]string) (objects map[string]int, refused map[string][]string) {
	t.Helper()
	dir := t.TempDir()
	args := append(slices.Clone(c.flags[version]), "--output=json")
	paths := map[string]string{}
	for name, stream := range streams {
		path := filepath.Join(dir, strconv.Itoa(len(paths))+".yaml")
		kubernetesWrite(t, path, stream)
		paths[name] = path
		args = append(args, path)
	}
	// The exit code is that of all files together; those that were read tell more.
	out, err := exec.Command("kubectl-validate", args...).Output()
	var verdicts map[string][]struct{ Status, Message string }
	if jsonErr := json.Unmarshal(out, &verdicts); jsonErr != nil {
		t.Fatalf("kubectl-validate: %v, %v: %s", err, jsonErr, out)
	}
	objects, refused = map[string]int{}, map[string][]string{}
	for name, path := range paths {
		for _, v := range verdicts[path] {
			objects[name]++
			if v.Status != "Success" {
				refused[name] = append(refused[name], v.Message)
			}
		}
	}
	if (err != nil) != (len(refused) > 0) {
		t.Errorf("kubectl-validate: %v, but it refuses %v", err, refused)
	}
	return objects, refused
}

// TestKubernetesValid: the oldest and the newest version accept every object of
// every kustomization.
func TestKubernetesValid(t *testing.T) {
	checker := newKubernetesChecker(t)
	streams := map[string]string{}
	for name, dir := range kubernetesBuilds(t) {
		streams[name] = kubernetesBuild(t, dir)
	}
	for _, version := range checker.versions {
		objects, refused := checker.check(t, version, streams)
		for name, stream := range streams {
			if got, want := objects[name], len(kubernetesObjects(t, stream)); got != want || len(refused[name]) > 0 {
				t.Errorf("%s, Kubernetes %s: %d of %d objects were checked, refused: %q", name, version, got, want, refused[name])
				continue
			}
			t.Logf("checked: %s, %d objects, by kubectl-validate for Kubernetes %s", name, objects[name], version)
		}
	}
}

// TestKubernetesCheckerRefuses: what checks the objects sees misspelt fields,
// wrong types and wrong values, in Kubernetes' own objects and in the
// operator's; and each version is what it is called.
func TestKubernetesCheckerRefuses(t *testing.T) {
	checker := newKubernetesChecker(t)
	objects := kubernetesBuild(t, filepath.Join(kubernetesDir, "overlays/example"))
	streams := map[string]string{}
	for right, wrong := range map[string]string{
		"readinessProbe:":               "readyProbe:",
		"policyTypes:":                  "policyType:",
		"maxSkew: 1":                    "maxSkew: one",
		"containerPort: 8080":           "containerPort: http",
		"accessModes:":                  "accessMode:",
		"pathType: Prefix":              "pathType: 7",
		"jobLabel:":                     "jobLable:",
		"interval: 15s":                 "interval: soon",
		"apiVersion: networking.k8s.io": "apiVersion: network.k8s.io",
	} {
		streams[wrong] = strings.Replace(objects, right, wrong, 1)
		if streams[wrong] == objects {
			t.Fatalf("the example has no %q", right)
		}
	}
	const fromNewer = "hostnameOverride"
	streams[fromNewer] = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: a}\nspec:\n  containers: [{name: a, image: a}]\n  " + fromNewer + ": a\n"
	for _, version := range checker.versions {
		_, refused := checker.check(t, version, streams)
		for wrong := range streams {
			want := 1
			if wrong == fromNewer && version == kubernetesNewest {
				want = 0
			}
			if len(refused[wrong]) != want {
				t.Errorf("Kubernetes %s refuses %q for %q, want %d objects refused", version, wrong, refused[wrong], want)
			}
		}
	}
	t.Logf("checked: the checker refuses misspelt fields, wrong types and wrong values, of ServiceMonitors too")
}
