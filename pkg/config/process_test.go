package config

import (
	"log/slog"
	"reflect"
	"testing"
)

func TestProcessFromEnv(t *testing.T) {
	t.Parallel()
	got, warnings, err := ProcessFromEnv([]string{
		"SIGHTLINE_CONFIG=/etc/s.yaml", "SIGHTLINE_NATS_URL=nats://u:hunter2@a,nats://b:4223", "SIGHTLINE_INSTANCE=gpu-1",
		"SIGHTLINE_DATA_DIR=/var/s", "SIGHTLINE_LOG_LEVEL=DEBUG", "SIGHTLINE_LOG_FORMAT=json", "SIGHTLINE_ORT_LIBRARY=/ort.so",
		"SIGHTLINE_REPLICAS=3", "SIGHTLINE_REGION=eu", "SIGHTLINE_MODELS=/m", "SIGHTLINE_WORKERS=2", "SIGHTLINE_CAPACITY=9", "PATH=/bin", "SIGHTLINE_FOOTAGE=x",
		"SIGHTLINE_NATS_NKEY=/run/seed", "SIGHTLINE_NATS_CA=/run/ca.pem", "SIGHTLINE_HTTP=[::1]:8080",
		"SIGHTLINE_REACT=off", "SIGHTLINE_REACT_MAX_SHARE=0.25",
	})
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	want := Process{
		Config: "/etc/s.yaml", NATS: got.NATS, Instance: "gpu-1", DataDir: "/var/s", LogLevel: slog.LevelDebug, LogFormat: "json",
		OrtLibrary: "/ort.so", Replicas: 3, Region: "eu", Models: "/m", Workers: 2, Capacity: 9,
		NKey: "/run/seed", CA: "/run/ca.pem", HTTP: "[::1]:8080", ReactMaxShare: .25,
	}
	if !reflect.DeepEqual(got, want) || got.NATS.Reveal() != "nats://u:hunter2@a,nats://b:4223" || got.Validate() != nil {
		t.Errorf("%+v", got)
	}
}

func TestProcessDefaults(t *testing.T) {
	t.Parallel()
	got, warnings, err := ProcessFromEnv([]string{"SIGHTLINE_REPLICAS=", "SIGHTLINE_NATS_SERVICE_HOST=10.0.0.1", "SIGHTLINE_NATS_PORT=tcp://10.0.0.1:4222", "SIGHTLINE_NATS_PORT_4222_TCP_ADDR=10.0.0.1"})
	if err != nil || len(warnings) > 0 || !reflect.DeepEqual(got, DefaultProcess()) {
		t.Errorf("%+v %v %v", got, warnings, err)
	}
	if err := DefaultProcess().Validate(); err != nil {
		t.Error(err)
	}
	for host, want := range map[string]string{"": "sightline", "a.b c": "a-b-c", "-x-": "x", "…": "sightline"} {
		if got := instanceName(host); got != want {
			t.Errorf("instance of %q is %q, want %q", host, got, want)
		}
	}
}

func TestProcessProblems(t *testing.T) {
	t.Parallel()
	_, warnings, err := ProcessFromEnv([]string{
		"SIGHTLINE_NATS_URL=http://u:hunter2@a", "SIGHTLINE_INSTANCE=hunter2.b", "SIGHTLINE_LOG_LEVEL=loud", "SIGHTLINE_LOG_FORMAT=xml",
		"SIGHTLINE_REPLICAS=2", "SIGHTLINE_REACT=true", "SIGHTLINE_REACT_MAX_SHARE=NaN", "SIGHTLINE_HTTP=:8080", "SIGHTLINE_NATS_UR=x", "SIGHTLINE_DOOR_PASSWORD=hunter2",
	})
	const want = `SIGHTLINE_HTTP: is not an address: write off, 127.0.0.1:8080, or 0.0.0.0:8080 for every interface
SIGHTLINE_INSTANCE: is not a name: write 1 to 63 letters, digits, - or _, beginning with a letter or digit
SIGHTLINE_LOG_FORMAT: is not a format: write text or json
SIGHTLINE_LOG_LEVEL: is not a level: write debug, info, warn or error
SIGHTLINE_NATS_URL: is not the URL of a broker: write nats://host:4222, with commas between several; percent-encode special characters of a password
SIGHTLINE_REACT: is neither on nor off: write on or off
SIGHTLINE_REACT_MAX_SHARE: is not a share: write more than 0 and at most 1, such as 0.5
SIGHTLINE_REPLICAS: is not a number of replicas: write 1, 3 or 5: an even number survives no more than one less`
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	const wantWarnings = `SIGHTLINE_DOOR_PASSWORD: is read by nothing: unset it; if sightline.yaml has it as ${SIGHTLINE_DOOR_PASSWORD}, give it a name without SIGHTLINE_
SIGHTLINE_NATS_UR: is read by nothing: did you mean SIGHTLINE_NATS_URL?`
	if len(warnings) != 2 || warnings[0].String()+"\n"+warnings[1].String() != wantWarnings {
		t.Errorf("%v", warnings)
	}
	err = Process{Replicas: 4, Instance: "a b"}.Validate()
	const wantValidate = `nats: is not the URL of a broker: write nats://host:4222, with commas between several; percent-encode special characters of a password
http: is not an address: write off, 127.0.0.1:8080, or 0.0.0.0:8080 for every interface
instance: is not a name: write 1 to 63 letters, digits, - or _, beginning with a letter or digit
log format: is not a format: write text or json
replicas: is not a number of replicas: write 1, 3 or 5: an even number survives no more than one less
config: is empty: write a path`
	if err == nil || err.Error() != wantValidate {
		t.Errorf("%v", err)
	}
}

func TestHTTPAddress(t *testing.T) {
	t.Parallel()
	for v, good := range map[string]bool{
		"off": true, "127.0.0.1:8080": true, "localhost:1": true, "0.0.0.0:65535": true, "[::]:8080": true,
		"on": false, "8080": false, ":8080": false, "127.0.0.1": false, "127.0.0.1:0": false, "127.0.0.1:65536": false, "127.0.0.1:http": false, "::1:8080": false,
	} {
		var p Process
		if message, _ := setHTTP(&p, v); (message == "") != good || good != (p.HTTP == v) {
			t.Errorf("%q: %q, %q", v, p.HTTP, message)
		}
	}
}

func TestParseServers(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "a:4222", "nats://", "nats://a,", "nats://a:0", "nats://a:99999", "nats://a/x", "nats://a?x", "nats://u:hunter2%@a"} {
		if u, err := ParseServers(bad); err == nil {
			t.Errorf("%q was accepted as %s", bad, u)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	env := Lookup([]string{"A=b=c", "EMPTY="})
	if v, ok := env("A"); v != "b=c" || !ok {
		t.Error(v, ok)
	}
	if v, ok := env("EMPTY"); v != "" || !ok {
		t.Error(v, ok)
	}
	if _, ok := env("NONE"); ok {
		t.Error("found what is not there")
	}
}
