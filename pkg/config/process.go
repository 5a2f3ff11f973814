package config

import (
	"log/slog"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/pkg/internal/strictyaml"
	"github.com/sightline-dev/sightline/streams"
)

// A Process is the settings of one process, as opposed to those of cameras.
type Process struct {
	// Config is the path of sightline.yaml, where the process reads one.
	Config string
	// NATS is the broker, or several with commas between them.
	NATS URL
	// NKey is the path of the seed file that says to the broker who this process is; empty says nothing.
	NKey string
	// CA is the path of the authorities' certificates (PEM) of tls:// brokers; empty is the system's.
	CA string
	// HTTP is where the process answers questions about itself, host:port, or [HTTPOff].
	HTTP string
	// Instance tells replicas of a service apart.
	Instance string
	// DataDir is where the embedded broker keeps its files; empty is a folder for each sightline.yaml below the user's data.
	DataDir string
	// LogLevel is the least level that is logged.
	LogLevel slog.Level
	// LogFormat is "text" or "json".
	LogFormat string
	// OrtLibrary is the path of the ONNX Runtime library; empty searches where the system does.
	OrtLibrary string
	// Region is where the process runs, as operators call it.
	Region string
	// Models is the model repository of an infer process.
	Models string
	// Workers is how many messages preprocess and infer work on at the same time; 0 is one for each CPU.
	Workers int
	// Capacity is how many cameras an ingest process captures at most.
	Capacity int
	// Replicas of streams and buckets that must survive a node of the broker: 1, 3 or 5.
	Replicas int
	// React is whether recovery marks answers about cameras that are faulty or drift, and ReactMaxShare the largest share of
	// cameras whose answers it marks at a time.
	React         bool
	ReactMaxShare float64
}

// The log formats.
const (
	LogText = "text"
	LogJSON = "json"
)

// HTTPOff is the address of a process that answers no questions.
const HTTPOff = "off"

// DefaultProcess is the settings of a process to which nothing is said. The instance is the machine's name.
func DefaultProcess() Process {
	nats, _ := ParseServers("nats://127.0.0.1:4222")
	host, _ := os.Hostname()
	return Process{
		Config: "sightline.yaml", NATS: nats, HTTP: HTTPOff, Instance: instanceName(host),
		LogLevel: slog.LevelInfo, LogFormat: LogText, Replicas: 1, Models: "models", Capacity: defaultCapacity,
		React: true, ReactMaxShare: defaultReactMaxShare,
	}
}

var notToken = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// instanceName makes a token of a machine's name.
func instanceName(host string) string {
	name := strings.Trim(notToken.ReplaceAllString(host, "-"), "-_")
	if name = name[:min(len(name), 63)]; name == "" {
		return "sightline"
	}
	return name
}

// A variable is a SIGHTLINE_ variable. The documentation is tested to be this table.
type variable struct {
	name, def, allowed, doc string
	// set puts a value; its message quotes nothing. It is nil for one that others read.
	set func(p *Process, value string) (message, hint string)
}

func processVariables() []variable {
	return []variable{
		{"SIGHTLINE_CONFIG", "sightline.yaml", "a path", "the file of cameras", func(p *Process, v string) (string, string) { p.Config = v; return "", "" }},
		{"SIGHTLINE_NATS_URL", "nats://127.0.0.1:4222", "`nats://`, `tls://`, `ws://` or `wss://`, commas between several", "the broker", setNATS},
		{"SIGHTLINE_NATS_NKEY", "none", "a path", "the NKEY seed that says to the broker who this process is", func(p *Process, v string) (string, string) { p.NKey = v; return "", "" }},
		{"SIGHTLINE_NATS_CA", "the system's", "a path", "the authorities (PEM) that may vouch for a `tls://` broker", func(p *Process, v string) (string, string) { p.CA = v; return "", "" }},
		{"SIGHTLINE_HTTP", HTTPOff, "`host:port` or `off`", "where a process answers `/livez`, `/readyz`, `/status` and `/metrics`; `sightline up` too", setHTTP},
		{"SIGHTLINE_INSTANCE", "the machine's name", "1 to 63 letters, digits, `-`, `_`", "tells replicas of a service apart", setInstance},
		{"SIGHTLINE_DATA_DIR", "below the user's data folder", "a path", "where the embedded broker keeps its files", func(p *Process, v string) (string, string) { p.DataDir = v; return "", "" }},
		{"SIGHTLINE_LOG_LEVEL", "info", "`debug`, `info`, `warn` or `error`", "the least level that is logged", setLogLevel},
		{"SIGHTLINE_LOG_FORMAT", LogText, "`text` or `json`", "how log lines look", setLogFormat},
		{"SIGHTLINE_ORT_LIBRARY", "the system's", "a path", "the ONNX Runtime library", func(p *Process, v string) (string, string) { p.OrtLibrary = v; return "", "" }},
		{"SIGHTLINE_REGION", "none", "1 to 63 letters, digits, `-`, `_`", "where the process runs; shown by `sightline workers`", setRegion},
		{"SIGHTLINE_MODELS", "models", "a path", "the model repository of an infer process", func(p *Process, v string) (string, string) { p.Models = v; return "", "" }},
		{"SIGHTLINE_WORKERS", "one for each CPU", "1 to 256", "how many messages a preprocess or infer process works on at the same time", setCount(func(p *Process) *int { return &p.Workers }, maxProcessWorkers)},
		{"SIGHTLINE_CAPACITY", strconv.Itoa(defaultCapacity), "1 to " + strconv.Itoa(maxCameras), "how many cameras an ingest process captures at most", setCount(func(p *Process) *int { return &p.Capacity }, maxCameras)},
		{"SIGHTLINE_REPLICAS", "1", "1, 3 or 5", "copies of streams and buckets that must survive a node of the broker", setReplicas},
		{"SIGHTLINE_REACT", "on", "`on` or `off`", "whether recovery marks answers about cameras that are faulty or drift as degraded", setReact},
		{"SIGHTLINE_REACT_MAX_SHARE", strconv.FormatFloat(defaultReactMaxShare, 'f', -1, 64), "more than 0, up to 1", "the largest share of cameras whose answers recovery marks at a time", setReactMaxShare},
		{"SIGHTLINE_FOOTAGE", "none", "a path", "what the demo and the benchmark play; read as `${SIGHTLINE_FOOTAGE}` in sightline.yaml", nil},
		{"SIGHTLINE_IMAGE_TAG", "dev", "a tag", "of the images that `make images` builds and docker-compose.yaml starts", nil},
		{"SIGHTLINE_SKIP_PACKAGES", "none", "1", "`make` installs no system packages", nil},
	}
}

func setNATS(p *Process, v string) (message, hint string) {
	servers, err := ParseServers(v)
	if err != nil {
		return "is not the URL of a broker", "write nats://host:4222, with commas between several; percent-encode special characters of a password"
	}
	p.NATS = servers
	return "", ""
}

// setHTTP wants a host: what listens everywhere shall say so.
func setHTTP(p *Process, v string) (message, hint string) {
	if v != HTTPOff {
		host, port, err := net.SplitHostPort(v)
		if n, bad := strconv.Atoi(port); err != nil || bad != nil || host == "" || n < 1 || n > 65535 {
			return "is not an address", "write off, 127.0.0.1:8080, or 0.0.0.0:8080 for every interface"
		}
	}
	p.HTTP = v
	return "", ""
}

func setInstance(p *Process, v string) (message, hint string) {
	if streams.CheckToken(v) != nil {
		return "is not a name", "write 1 to 63 letters, digits, - or _, beginning with a letter or digit"
	}
	p.Instance = v
	return "", ""
}

var logLevels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func setLogLevel(p *Process, v string) (message, hint string) {
	level, ok := logLevels[strings.ToLower(v)]
	if !ok {
		return "is not a level", "write debug, info, warn or error"
	}
	p.LogLevel = level
	return "", ""
}

func setLogFormat(p *Process, v string) (message, hint string) {
	if v != LogText && v != LogJSON {
		return "is not a format", "write text or json"
	}
	p.LogFormat = v
	return "", ""
}

func setRegion(p *Process, v string) (message, hint string) {
	if streams.CheckToken(v) != nil {
		return "is not a name", "write 1 to 63 letters, digits, - or _, beginning with a letter or digit"
	}
	p.Region = v
	return "", ""
}

const (
	maxProcessWorkers = 256
	defaultCapacity   = 64
)

// setCount reads a number from 1 to most.
func setCount(field func(*Process) *int, most int) func(*Process, string) (message, hint string) {
	return func(p *Process, v string) (message, hint string) {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > most {
			return "is out of range", "write 1 to " + strconv.Itoa(most)
		}
		*field(p) = n
		return "", ""
	}
}

func setReplicas(p *Process, v string) (message, hint string) {
	n, err := strconv.Atoi(v)
	if err != nil || !slices.Contains(replicas, n) {
		return "is not a number of replicas", "write 1, 3 or 5: an even number survives no more than one less"
	}
	p.Replicas = n
	return "", ""
}

var replicas = []int{1, 3, 5}

const defaultReactMaxShare = 0.5

func setReact(p *Process, v string) (message, hint string) {
	if v != "on" && v != "off" {
		return "is neither on nor off", "write on or off"
	}
	p.React = v == "on"
	return "", ""
}

func setReactMaxShare(p *Process, v string) (message, hint string) {
	share, err := strconv.ParseFloat(v, 64)
	if err != nil || !(share > 0 && share <= 1) {
		return "is not a share", "write more than 0 and at most 1, such as 0.5"
	}
	p.ReactMaxShare = share
	return "", ""
}

// Validate reports every problem as [Problems]. The command line calls it after flags.
func (p Process) Validate() error {
	var problems Problems
	add := func(path, message, hint string) {
		if message != "" {
			problems = append(problems, Problem{Path: path, Message: message, Hint: hint})
		}
	}
	var scratch Process
	for _, check := range []struct {
		path, value string
		set         func(*Process, string) (string, string)
	}{
		{"nats", p.NATS.Reveal(), setNATS},
		{"http", p.HTTP, setHTTP},
		{"instance", p.Instance, setInstance},
		{"log format", p.LogFormat, setLogFormat},
		{"replicas", strconv.Itoa(p.Replicas), setReplicas},
	} {
		message, hint := check.set(&scratch, check.value)
		add(check.path, message, hint)
	}
	if p.Config == "" {
		add("config", "is empty", "write a path")
	}
	return problems.orNil()
}

// ProcessFromEnv lays the SIGHTLINE_ variables of environ, as [os.Environ] has it, over [DefaultProcess]. It reports
// all problems at once as [Problems]. An empty variable counts as not set. A variable that nothing reads is a warning.
func ProcessFromEnv(environ []string) (Process, []Warning, error) {
	p := DefaultProcess()
	known := map[string]variable{}
	variables := processVariables()
	names := make([]string, 0, len(variables))
	for _, v := range variables {
		known[v.name] = v
		names = append(names, v.name)
	}
	var problems Problems
	var warnings []Warning
	for _, pair := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(pair, "=")
		v, ok := known[name]
		switch {
		case !ok && strings.HasPrefix(name, "SIGHTLINE_") && !fromKubernetes.MatchString(name):
			warnings = append(warnings, unknownVariable(name, names))
		case !ok || v.set == nil || value == "":
		default:
			if message, hint := v.set(&p, value); message != "" {
				problems = append(problems, Problem{Path: name, Message: message, Hint: hint})
			}
		}
	}
	if len(problems) > 0 {
		return Process{}, warnings, problems
	}
	return p, warnings, nil
}

// fromKubernetes matches what Kubernetes sets in every pod for a Service whose name begins with sightline-.
var fromKubernetes = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

func unknownVariable(name string, known []string) Warning {
	w := Warning{Path: name, Message: "is read by nothing", Explain: "unset it; if sightline.yaml has it as ${" + name + "}, give it a name without SIGHTLINE_"}
	if meant := strictyaml.Suggest(name, known); meant != "" {
		w.Explain = "did you mean " + meant + "?"
	}
	return w
}

// Lookup makes an [Env] of environ, as [os.Environ] has it.
func Lookup(environ []string) Env {
	values := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

var brokerSchemes = []string{"nats", "tls", "ws", "wss"}

// ParseServers reads the URL of a broker, or several with commas between them. What it says about a bad one never quotes it.
func ParseServers(raw string) (URL, error) {
	bad := &urlError{"is not the URL of a broker", "write nats://host:4222"}
	var all, shown []string
	for server := range strings.SplitSeq(raw, ",") {
		server = strings.TrimSpace(server)
		u, err := url.Parse(server)
		if err != nil || !slices.Contains(brokerSchemes, u.Scheme) || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return URL{}, bad
		}
		if port := u.Port(); port != "" {
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
				return URL{}, bad
			}
		}
		all = append(all, server)
		user := ""
		if u.User != nil {
			user = redacted + "@"
		}
		shown = append(shown, u.Scheme+"://"+user+u.Host)
	}
	return URL{&address{raw: strings.Join(all, ","), shown: strings.Join(shown, ",")}}, nil
}
