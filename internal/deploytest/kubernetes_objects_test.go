//go:build deploy

package deploytest

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The fields of Kubernetes' objects that the tests look at. Their names are the
// API's, without regard to case.
type (
	kubernetesObject struct {
		Kind     string
		Metadata kubernetesMetadata
		Spec     json.RawMessage
		Data     map[string]string
	}
	kubernetesMetadata struct {
		Name, Namespace string
		Labels          map[string]string
	}
	kubernetesSelector struct {
		MatchLabels      map[string]string
		MatchExpressions []struct {
			Key, Operator string
			Values        []string
		}
	}
	// kubernetesWorkload is a Deployment, a StatefulSet or a Job.
	kubernetesWorkload struct {
		*kubernetesObject
		Replicas *int
		Selector *kubernetesSelector
		Strategy struct {
			RollingUpdate struct{ MaxSurge, MaxUnavailable int }
		}
		ServiceName          string
		VolumeClaimTemplates []struct {
			Metadata kubernetesMetadata
			Spec     struct{ Resources kubernetesResources }
		}
		Template struct {
			Metadata kubernetesMetadata
			Spec     kubernetesPod
		}
	}
	kubernetesPod struct {
		ServiceAccountName            string
		AutomountServiceAccountToken  *bool
		EnableServiceLinks            *bool
		TerminationGracePeriodSeconds int
		HostNetwork                   bool
		SecurityContext               struct {
			RunAsNonRoot       bool
			RunAsUser, FSGroup int
			SeccompProfile     struct{ Type string }
		}
		Containers []kubernetesContainer
		Volumes    []struct {
			Name   string
			Secret *struct {
				SecretName  string
				DefaultMode int
			}
		}
	}
	kubernetesContainer struct {
		Image           string
		Args            []string
		EnvFrom         []struct{ ConfigMapRef struct{ Name string } }
		Env             []struct{ Name, Value string }
		Ports           []kubernetesPort
		ReadinessProbe  kubernetesProbe
		LivenessProbe   kubernetesProbe
		StartupProbe    kubernetesProbe
		SecurityContext struct {
			AllowPrivilegeEscalation *bool
			ReadOnlyRootFilesystem   bool
			Capabilities             struct{ Add, Drop []string }
		}
		Resources    kubernetesResources
		VolumeMounts []struct {
			Name, MountPath string
			ReadOnly        bool
		}
	}
	kubernetesPort struct {
		Name          string
		ContainerPort int
	}
	kubernetesProbe struct {
		HTTPGet struct{ Path, Port string }
	}
	kubernetesResources struct{ Requests, Limits map[string]string }

	kubernetesService struct {
		Selector map[string]string
		Ports    []struct{ Name, TargetPort string }
	}
	kubernetesPolicy struct {
		PodSelector kubernetesSelector
		PolicyTypes []string
		Ingress     []kubernetesRule
		Egress      []kubernetesRule
	}
	kubernetesRule struct {
		From, To []kubernetesPeer
		Ports    []struct {
			Protocol string
			Port     any
		}
	}
	kubernetesPeer struct {
		IPBlock *struct {
			CIDR   string
			Except []string
		}
		NamespaceSelector, PodSelector *kubernetesSelector
	}
)

func (o *kubernetesObject) String() string { return o.Kind + " " + o.Metadata.Name }

// kubernetesObjects are the objects of a stream.
func kubernetesObjects(t *testing.T, stream string) []*kubernetesObject {
	t.Helper()
	var all []*kubernetesObject
	for decoder := yaml.NewDecoder(strings.NewReader(stream)); ; {
		var anything any
		err := decoder.Decode(&anything)
		if errors.Is(err, io.EOF) {
			return all
		}
		var o kubernetesObject
		if err == nil {
			var text []byte
			if text, err = json.Marshal(anything); err == nil {
				err = json.Unmarshal(text, &o)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &o)
	}
}

// kubernetesSpec is the spec of an object.
func kubernetesSpec[T any](t *testing.T, o *kubernetesObject) T {
	t.Helper()
	var spec T
	if err := json.Unmarshal(o.Spec, &spec); err != nil {
		t.Fatalf("%s: %v", o, err)
	}
	return spec
}

func (s *kubernetesSelector) matches(labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if labels[key] != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		if e.Operator != "In" || !slices.Contains(e.Values, labels[e.Key]) {
			return false
		}
	}
	return true
}

// kubernetesRendered is one kustomization, built.
type kubernetesRendered struct {
	t       *testing.T
	objects []*kubernetesObject
}

func kubernetesRender(t *testing.T, dir string) *kubernetesRendered {
	t.Helper()
	return &kubernetesRendered{t, kubernetesObjects(t, kubernetesBuild(t, dir))}
}

func (r *kubernetesRendered) all(kinds ...string) []*kubernetesObject {
	return slices.DeleteFunc(slices.Clone(r.objects), func(o *kubernetesObject) bool { return !slices.Contains(kinds, o.Kind) })
}

// get is the object, nil if there is none.
func (r *kubernetesRendered) get(kind, name string) *kubernetesObject {
	for _, o := range r.all(kind) {
		if o.Metadata.Name == name {
			return o
		}
	}
	return nil
}

// must is the object, which must be there.
func (r *kubernetesRendered) must(kind, name string) *kubernetesObject {
	r.t.Helper()
	o := r.get(kind, name)
	if o == nil {
		r.t.Fatalf("there is no %s %s", kind, name)
	}
	return o
}

func (r *kubernetesRendered) workloads() []*kubernetesWorkload {
	r.t.Helper()
	var all []*kubernetesWorkload
	for _, o := range r.all("Deployment", "StatefulSet", "Job") {
		w := kubernetesSpec[kubernetesWorkload](r.t, o)
		w.kubernetesObject = o
		all = append(all, &w)
	}
	return all
}

// selected are the names of the workloads whose pods match.
func (r *kubernetesRendered) selected(s kubernetesSelector) []string {
	r.t.Helper()
	var names []string
	for _, w := range r.workloads() {
		if s.matches(w.Template.Metadata.Labels) {
			names = append(names, w.Metadata.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (w *kubernetesWorkload) container() *kubernetesContainer { return &w.Template.Spec.Containers[0] }

// port is the number of a named port, 0 if there is none.
func (w *kubernetesWorkload) port(name string) int {
	for _, p := range w.container().Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	return 0
}

// settings is the environment that the objects give to the container.
func (r *kubernetesRendered) settings(w *kubernetesWorkload) map[string]string {
	r.t.Helper()
	all := map[string]string{}
	for _, from := range w.container().EnvFrom {
		for name, value := range r.must("ConfigMap", from.ConfigMapRef.Name).Data {
			all[name] = value
		}
	}
	for _, e := range w.container().Env {
		all[e.Name] = e.Value
	}
	return all
}
