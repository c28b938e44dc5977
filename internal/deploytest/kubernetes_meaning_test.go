//go:build deploy

package deploytest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/config"
)

// TestKubernetesObjects: the objects of every kustomization fit together, and
// with callbackd.
func TestKubernetesObjects(t *testing.T) {
	for name, dir := range kubernetesBuilds(t) {
		t.Run(name, func(t *testing.T) {
			r := kubernetesRender(t, dir)
			for _, w := range r.workloads() {
				r.wantRestricted(w)
				r.wantMounted(w)
				r.wantProbed(w)
				r.wantRoom(w)
				r.wantSettings(w)
				r.wantWays(w)
			}
			r.wantSelected()
			r.wantScaled()
			t.Logf("checked: %d objects: selectors, ports, probes, settings, secrets, volumes, rights, memory, network", len(r.objects))
		})
	}
}

// wantRestricted: the pod is what the profile "restricted" of the Pod Security
// Standards demands, and a little more.
func (r *kubernetesRendered) wantRestricted(w *kubernetesWorkload) {
	r.t.Helper()
	pod, c := w.Template.Spec, w.container()
	isFalse := func(b *bool) bool { return b != nil && !*b }
	for what, holds := range map[string]bool{
		"one container":                len(pod.Containers) == 1,
		"runs as 65532":                pod.SecurityContext.RunAsNonRoot && pod.SecurityContext.RunAsUser == 65532 && pod.SecurityContext.FSGroup == 65532,
		"seccomp":                      pod.SecurityContext.SeccompProfile.Type == "RuntimeDefault",
		"no escalation":                isFalse(c.SecurityContext.AllowPrivilegeEscalation),
		"no capabilities":              slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) && len(c.SecurityContext.Capabilities.Add) == 0,
		"read-only root file system":   c.SecurityContext.ReadOnlyRootFilesystem,
		"not in the host's network":    !pod.HostNetwork,
		"no token of the API":          isFalse(pod.AutomountServiceAccountToken),
		"no variables of services":     isFalse(pod.EnableServiceLinks),
		"a service account of its own": pod.ServiceAccountName == w.Metadata.Name && r.get("ServiceAccount", w.Metadata.Name) != nil,
		"selects its own pods":         w.Kind == "Job" || w.Selector != nil && len(w.Selector.MatchLabels) > 0 && w.Selector.matches(w.Template.Metadata.Labels),
	} {
		if !holds {
			r.t.Errorf("%s: not so: %s", w, what)
		}
	}
}

// kubernetesSecretDir is where the keys of a Secret are files.
const kubernetesSecretDir = "/run/secrets/callbackd"

// wantMounted: the workload's own Secret for the group to read, and where there
// is a spool, a volume that outlives the pod; nothing else.
func (r *kubernetesRendered) wantMounted(w *kubernetesWorkload) {
	r.t.Helper()
	pod := w.Template.Spec
	got := map[string]string{}
	for _, m := range w.container().VolumeMounts {
		got[m.MountPath] = m.Name + map[bool]string{true: ", read-only"}[m.ReadOnly]
	}
	want := map[string]string{kubernetesSecretDir: "secrets, read-only"}
	if dir := r.settings(w)["CALLBACKD_SPOOL_DIR"]; dir != "" {
		want[filepath.Dir(dir)] = "spool"
		if w.Kind != "StatefulSet" || len(w.VolumeClaimTemplates) != 1 || w.VolumeClaimTemplates[0].Metadata.Name != "spool" {
			r.t.Errorf("%s: the spool is not on a volume of each pod's own", w)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("%s: mounts (-want +got):\n%s", w, diff)
	}
	if len(pod.Volumes) != 1 || pod.Volumes[0].Name != "secrets" || pod.Volumes[0].Secret == nil ||
		pod.Volumes[0].Secret.SecretName != w.Metadata.Name || pod.Volumes[0].Secret.DefaultMode != 0o440 {
		r.t.Errorf("%s: volumes are %+v, want its Secret with mode 0440", w, pod.Volumes)
	}
}

// wantProbed: probes ask where callbackd listens. Readiness of what receives is
// asked on the listener that receives.
func (r *kubernetesRendered) wantProbed(w *kubernetesWorkload) {
	r.t.Helper()
	if w.Kind == "Job" {
		return
	}
	settings, c := r.settings(w), w.container()
	listens := map[string]string{"admin": settings["CALLBACKD_ADMIN_LISTEN"]}
	readiness := "admin"
	if settings["CALLBACKD_RECEIVE"] != "false" {
		listens["callback"] = settings["CALLBACKD_LISTEN"]
		readiness = "callback"
	}
	ports := map[string]string{}
	for _, p := range c.Ports {
		ports[p.Name] = ":" + strconv.Itoa(p.ContainerPort)
	}
	if diff := cmp.Diff(listens, ports); diff != "" {
		r.t.Errorf("%s: ports that callbackd listens on, and the container's (-want +got):\n%s", w, diff)
	}
	got := [][2]string{}
	for _, p := range []kubernetesProbe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
		got = append(got, [2]string{p.HTTPGet.Port, p.HTTPGet.Path})
	}
	if diff := cmp.Diff([][2]string{{readiness, "/readyz"}, {"admin", "/healthz"}, {"admin", "/healthz"}}, got); diff != "" {
		r.t.Errorf("%s: probes (-want +got):\n%s", w, diff)
	}
}

// wantRoom: enough time to stop, memory, and disk for the spool.
func (r *kubernetesRendered) wantRoom(w *kubernetesWorkload) {
	r.t.Helper()
	settings := r.settings(w)
	memory := kubernetesBytes(r.t, w.container().Resources.Limits["memory"])
	if w.container().Resources.Requests["cpu"] == "" || kubernetesBytes(r.t, w.container().Resources.Requests["memory"]) > memory {
		r.t.Errorf("%s: requests are %v, limits %v", w, w.container().Resources.Requests, w.container().Resources.Limits)
	}
	if w.Kind == "Job" {
		return
	}
	c, err := config.Load(kubernetesEnviron(r.t, settings))
	if err != nil {
		r.t.Fatalf("%s: %v", w, err)
	}
	// docs/operations.md: the size at which the garbage collector hurries, plus half of it.
	if least := (160<<20 + 2*int64(c.Workers)*c.MaxImageBytes) * 3 / 2; memory < least {
		r.t.Errorf("%s: %d bytes of memory, want at least %d", w, memory, least)
	}
	if grace := time.Duration(w.Template.Spec.TerminationGracePeriodSeconds) * time.Second; grace < c.ShutdownTimeout+5*time.Second {
		r.t.Errorf("%s: killed after %s, but may take %s to stop", w, grace, c.ShutdownTimeout)
	}
	for _, claim := range w.VolumeClaimTemplates {
		if size := kubernetesBytes(r.t, claim.Spec.Resources.Requests["storage"]); size < 2*c.SpoolMaxBytes {
			r.t.Errorf("%s: a volume of %d bytes, want twice CALLBACKD_SPOOL_MAX_BYTES", w, size)
		}
	}
	const tenantLimit = 15 // requests a second that Jumio allows
	if c.Workers > 0 && c.RetrievalRPS > tenantLimit {
		r.t.Errorf("%s: up to %v requests a second to Jumio, which allows %d", w, c.RetrievalRPS, tenantLimit)
	}
}

func kubernetesBytes(t *testing.T, quantity string) int64 {
	t.Helper()
	for suffix, unit := range map[string]int64{"Mi": 1 << 20, "Gi": 1 << 30} {
		if number, ok := strings.CutSuffix(quantity, suffix); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n * unit
		}
	}
	t.Fatalf("%q is no quantity that this test reads", quantity)
	return 0
}

// kubernetesSecrets are values for the files of the Secrets.
var kubernetesSecrets = map[string]string{
	"database-url":        "postgres://callbackd@postgres.example.com/callbackd",
	"callback-path":       "/jumio/unguessable",
	"jumio-client-id":     "client",
	"jumio-client-secret": "secret",
}

// kubernetesEnviron is a container's environment, with its secrets in files of
// this machine, and what the base leaves to an overlay.
func kubernetesEnviron(t *testing.T, settings map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	var environ []string
	for name, value := range settings {
		if key, ok := strings.CutPrefix(value, kubernetesSecretDir+"/"); ok {
			content, known := kubernetesSecrets[key]
			if !known {
				t.Fatalf("%s: the documented Secrets have no key %q", name, key)
			}
			value = filepath.Join(dir, key)
			kubernetesWrite(t, value, content+"\n")
		}
		environ = append(environ, name+"="+value)
	}
	if settings["CALLBACKD_WORKERS"] != "0" && settings["JUMIO_USER_AGENT"] == "" {
		environ = append(environ, "JUMIO_USER_AGENT=YourCompany YourApp/v1.0")
	}
	return environ
}

// wantSettings: every variable is one of callbackd's, secrets come from files
// and from nowhere else, and each role has those that make it what it is.
func (r *kubernetesRendered) wantSettings(w *kubernetesWorkload) {
	r.t.Helper()
	settings := r.settings(w)
	for name, value := range settings {
		i := slices.IndexFunc(config.Variables(), func(v config.Variable) bool { return v.Name == strings.TrimSuffix(name, "_FILE") })
		switch {
		case i < 0:
			r.t.Errorf("%s: callbackd knows no variable %s", w, name)
		case config.Variables()[i].Secret && (!strings.HasSuffix(name, "_FILE") || filepath.Dir(value) != kubernetesSecretDir):
			r.t.Errorf("%s: %s is a secret and no file of the Secret", w, name)
		}
	}
	for name, value := range map[string]map[string]string{
		"callbackd-receiver": {"CALLBACKD_WORKERS": "0", "CALLBACKD_RECEIVE": "", "JUMIO_CLIENT_SECRET_FILE": ""},
		"callbackd-worker":   {"CALLBACKD_RECEIVE": "false", "CALLBACKD_CALLBACK_PATH_FILE": ""},
		"callbackd-migrate":  {"JUMIO_CLIENT_SECRET_FILE": "", "CALLBACKD_CALLBACK_PATH_FILE": ""},
	}[w.Metadata.Name] {
		if settings[name] != value {
			r.t.Errorf("%s: %s is %q, want %q", w, name, settings[name], value)
		}
	}
	if want := map[bool][]string{true: {"migrate", "up"}, false: {"serve"}}[w.Kind == "Job"]; !slices.Equal(w.container().Args, want) {
		r.t.Errorf("%s: runs %q, want %q", w, w.container().Args, want)
	}
}

// wantWays: the pods reach, and are reached from, these and nothing else.
func (r *kubernetesRendered) wantWays(w *kubernetesWorkload) {
	r.t.Helper()
	var want []string
	isolated, got := r.ways(w)
	for _, port := range []string{"TCP 53", "UDP 53"} {
		want = append(want, "to k8s-app=kube-dns in kube-system, "+port)
	}
	for _, peer := range r.postgres() {
		want = append(want, "to "+peer+", TCP 5432")
	}
	if w.Metadata.Name == "callbackd-receiver" {
		want = append(want, "from ingress-nginx, TCP 8080")
	}
	if r.get("ServiceMonitor", "callbackd") != nil && w.Kind != "Job" {
		want = append(want, "from monitoring, TCP 9090")
	}
	if w.Metadata.Name == "callbackd-worker" {
		want = append(want, "to the internet, TCP 443")
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("%s: the ways that the policies open (-want +got):\n%s", w, diff)
	}
	if !slices.Equal(isolated, []string{"Egress", "Ingress"}) {
		r.t.Errorf("%s: the policies hold for %v only", w, isolated)
	}
}

// postgres are the addresses that the policy for Postgres names.
func (r *kubernetesRendered) postgres() []string {
	r.t.Helper()
	var peers []string
	for _, rule := range kubernetesSpec[kubernetesPolicy](r.t, r.must("NetworkPolicy", "callbackd-postgres")).Egress {
		for _, p := range rule.To {
			prefix := netip.MustParsePrefix(p.IPBlock.CIDR)
			if !prefix.IsSingleIP() {
				r.t.Errorf("Postgres is at %s, want single addresses", prefix)
			}
			peers = append(peers, p.IPBlock.CIDR)
		}
	}
	return peers
}

// ways are the directions in which the workload's pods are isolated, and what
// is open all the same, one line for each peer and port.
func (r *kubernetesRendered) ways(w *kubernetesWorkload) (isolated, open []string) {
	r.t.Helper()
	for _, o := range r.all("NetworkPolicy") {
		p := kubernetesSpec[kubernetesPolicy](r.t, o)
		if !p.PodSelector.matches(w.Template.Metadata.Labels) {
			continue
		}
		isolated = append(isolated, p.PolicyTypes...)
		for _, rule := range p.Ingress {
			open = append(open, r.lines(w, "from ", rule.From, rule)...)
		}
		for _, rule := range p.Egress {
			open = append(open, r.lines(w, "to ", rule.To, rule)...)
		}
	}
	slices.Sort(isolated)
	slices.Sort(open)
	return slices.Compact(isolated), slices.Compact(open)
}

func (r *kubernetesRendered) lines(w *kubernetesWorkload, direction string, peers []kubernetesPeer, rule kubernetesRule) (lines []string) {
	r.t.Helper()
	if len(peers) == 0 || len(rule.Ports) == 0 {
		return []string{direction + "anybody, or any port"}
	}
	for _, peer := range peers {
		for _, port := range rule.Ports {
			number := port.Port
			if name, ok := number.(string); ok {
				number = w.port(name)
			}
			lines = append(lines, fmt.Sprintf("%s%s, %s %v", direction, r.peer(peer), port.Protocol, number))
		}
	}
	return lines
}

// peer names the other end: the internet is what has all public addresses and
// no others.
func (r *kubernetesRendered) peer(p kubernetesPeer) string {
	r.t.Helper()
	if p.IPBlock == nil {
		where := "in this namespace"
		if p.NamespaceSelector != nil {
			where = p.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]
		}
		if p.PodSelector == nil {
			return where
		}
		return fmt.Sprintf("k8s-app=%s in %s", p.PodSelector.MatchLabels["k8s-app"], where)
	}
	// What the API server demands of a policy beyond its schema.
	block := netip.MustParsePrefix(p.IPBlock.CIDR)
	for _, except := range p.IPBlock.Except {
		if e := netip.MustParsePrefix(except); e != e.Masked() || e.Addr().Is4In6() || e.Bits() <= block.Bits() || !block.Contains(e.Addr()) {
			r.t.Errorf("%s is no part of %s in the usual form", except, block)
		}
	}
	within := func(address string) bool {
		a := netip.MustParseAddr(address)
		return block.Contains(a) &&
			!slices.ContainsFunc(p.IPBlock.Except, func(except string) bool { return netip.MustParsePrefix(except).Contains(a) })
	}
	public := []string{"34.202.241.227", "9.255.255.255", "11.0.0.0", "172.15.0.1", "172.32.0.1", "192.167.0.1", "223.255.255.255"}
	private := []string{"0.0.0.0", "10.0.0.1", "10.255.255.255", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1", "224.0.0.1", "255.255.255.255"}
	if strings.Contains(p.IPBlock.CIDR, ":") {
		public = []string{"2600:1f18::1", "2a05:d018::1"}
		private = []string{"::1", "fd00:ec2::254", "fc00::1", "fe80::1", "ff02::1"}
	}
	if !slices.ContainsFunc(public, func(a string) bool { return !within(a) }) && !slices.ContainsFunc(private, within) {
		return "the internet"
	}
	if len(p.IPBlock.Except) > 0 {
		return fmt.Sprintf("%s but %v", p.IPBlock.CIDR, p.IPBlock.Except)
	}
	return p.IPBlock.CIDR
}

// wantSelected: what selects pods or names objects finds them.
func (r *kubernetesRendered) wantSelected() {
	r.t.Helper()
	both := []string{"callbackd-receiver", "callbackd-worker"}
	ports := map[string][]string{}
	for _, o := range r.all("Service") {
		s := kubernetesSpec[kubernetesService](r.t, o)
		want := map[string][]string{"callbackd-receiver": both[:1], "callbackd-metrics": {"callbackd-migrate", both[0], both[1]}}[o.Metadata.Name]
		got := r.selected(kubernetesSelector{MatchLabels: s.Selector})
		if !slices.Equal(got, want) {
			r.t.Errorf("%s selects the pods of %v, want %v", o, got, want)
		}
		for _, p := range s.Ports {
			ports[o.Metadata.Name] = append(ports[o.Metadata.Name], p.Name)
			for _, w := range r.workloads() {
				if w.Kind != "Job" && slices.Contains(got, w.Metadata.Name) && w.port(p.TargetPort) == 0 {
					r.t.Errorf("%s: the pods of %s have no port %s", o, w, p.TargetPort)
				}
			}
		}
	}
	for _, o := range r.all("PodDisruptionBudget") {
		got := r.selected(kubernetesSpec[struct{ Selector kubernetesSelector }](r.t, o).Selector)
		if !slices.Equal(got, []string{o.Metadata.Name}) {
			r.t.Errorf("%s selects the pods of %v", o, got)
		}
	}
	for _, o := range r.all("ServiceMonitor") {
		m := kubernetesSpec[struct {
			Selector  kubernetesSelector
			Endpoints []struct{ Port string }
		}](r.t, o)
		var services []string
		for _, s := range r.all("Service") {
			if m.Selector.matches(s.Metadata.Labels) {
				services = append(services, s.Metadata.Name)
			}
		}
		if !slices.Equal(services, []string{"callbackd-metrics"}) || len(m.Endpoints) != 1 || !slices.Contains(ports["callbackd-metrics"], m.Endpoints[0].Port) {
			r.t.Errorf("%s selects the Services %v with the ports %v", o, services, m.Endpoints)
		}
	}
	for _, o := range r.all("Ingress") {
		spec := kubernetesSpec[struct {
			TLS   []struct{ Hosts []string }
			Rules []struct {
				Host string
				HTTP struct {
					Paths []struct {
						Path    string
						Backend struct {
							Service struct {
								Name string
								Port struct{ Name string }
							}
						}
					}
				}
			}
		}](r.t, o)
		for _, rule := range spec.Rules {
			for _, p := range rule.HTTP.Paths {
				if p.Path != "/" || !slices.Contains(ports[p.Backend.Service.Name], p.Backend.Service.Port.Name) {
					r.t.Errorf("%s: %+v is not every path to a port of a Service", o, p)
				}
			}
			if len(spec.TLS) != 1 || !slices.Contains(spec.TLS[0].Hosts, rule.Host) {
				r.t.Errorf("%s: no TLS for %s", o, rule.Host)
			}
		}
	}
	for _, o := range r.objects {
		if want := r.objects[len(r.objects)-1].Metadata.Namespace; o.Kind != "Namespace" && o.Metadata.Namespace != want {
			r.t.Errorf("%s is in the namespace %q, another in %q", o, o.Metadata.Namespace, want)
		}
	}
}

// wantScaled: at least two of each role. Receivers are scaled by load unless
// they keep something, and a roll-out removes none of them before its successor is
// ready.
func (r *kubernetesRendered) wantScaled() {
	r.t.Helper()
	hpa := r.get("HorizontalPodAutoscaler", "callbackd-receiver")
	for _, w := range r.workloads() {
		switch {
		case w.Kind == "Job":
		case w.Kind == "StatefulSet":
			if hpa != nil || w.Replicas == nil || *w.Replicas < 3 || r.get("Deployment", w.Metadata.Name) != nil || r.get("Service", w.ServiceName) == nil {
				r.t.Errorf("%s: want three replicas without an autoscaler and without a Deployment beside it", w)
			}
		case w.Metadata.Name == "callbackd-receiver":
			if hpa == nil {
				r.t.Errorf("%s: no autoscaler", w)
				continue
			}
			spec := kubernetesSpec[struct {
				ScaleTargetRef struct{ Kind, Name string }
				MinReplicas    int
			}](r.t, hpa)
			if spec.ScaleTargetRef.Kind != w.Kind || spec.ScaleTargetRef.Name != w.Metadata.Name || spec.MinReplicas < 2 || w.Replicas != nil {
				r.t.Errorf("%s does not fit the autoscaler %+v", w, spec)
			}
			if u := w.Strategy.RollingUpdate; u.MaxUnavailable != 0 || u.MaxSurge == 0 {
				r.t.Errorf("%s: a roll-out %+v takes receivers away", w, u)
			}
		default:
			if w.Replicas == nil || *w.Replicas < 2 {
				r.t.Errorf("%s: want two replicas", w)
			}
		}
		if w.Kind != "Job" && r.get("PodDisruptionBudget", w.Metadata.Name) == nil {
			r.t.Errorf("%s: no PodDisruptionBudget", w)
		}
	}
}

// TestKubernetesConfig: the release binary accepts the environment of every
// container that serves, and shows none of its secrets.
func TestKubernetesConfig(t *testing.T) {
	program := buildCallbackd(t)
	for name, dir := range kubernetesBuilds(t) {
		r := kubernetesRender(t, dir)
		for _, w := range r.workloads() {
			if w.Kind == "Job" {
				continue
			}
			cmd := exec.Command(program, "config")
			cmd.Env = kubernetesEnviron(t, r.settings(w))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s, %s: %v\n%s", name, w, err, out)
				continue
			}
			for _, secret := range []string{"database-url", "callback-path", "jumio-client-secret"} {
				if strings.Contains(string(out), kubernetesSecrets[secret]) {
					t.Errorf("%s, %s: `callbackd config` shows the %s", name, w, secret)
				}
			}
			t.Logf("checked: %s, %s: `callbackd config` accepts its environment", name, w)
		}
	}
}

// TestKubernetesSecretsDocumented: the base's head lists the expected keys.
func TestKubernetesSecretsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(kubernetesDir, "base/kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r := kubernetesRender(t, filepath.Join(kubernetesDir, "base"))
	for _, w := range r.workloads() {
		var keys []string
		for _, e := range w.container().Env {
			if key, ok := strings.CutPrefix(e.Value, kubernetesSecretDir+"/"); ok {
				keys = append(keys, key)
			}
		}
		line := "#   " + fmt.Sprintf("%-20s", w.Metadata.Name) + strings.Join(keys, ", ") + "\n"
		if !strings.Contains(string(text), line) {
			t.Errorf("base/kustomization.yaml does not say %q", line)
		}
	}
}
